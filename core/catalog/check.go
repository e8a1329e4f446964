package catalog

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

var (
	entryName = regexp.MustCompile(`\A[a-z][a-z0-9]{0,63}\z`)
	errorCode = regexp.MustCompile(`\A[A-Za-z0-9_.-]+( [A-Za-z0-9_.-]+)*\z`)
	fieldPath = regexp.MustCompile(`\A[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\z`)
)

// check looks for what the types do not refuse. document is the same entry as its file has it.
func (p *Provider) check(document map[string]any) error {
	var errs []error
	fail := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }

	if !entryName.MatchString(p.Name) || p.DisplayName == "" {
		fail("name and displayName: %q and %q", p.Name, p.DisplayName)
	}
	for field, value := range map[string]string{
		"docs": p.Docs, "authorizationUrl": p.AuthorizationURL, "tokenUrl": p.TokenURL, "issuer": p.Issuer,
		"identity.url": p.Identity.URL, "revoke.url": p.Revoke.URL, "verified.sourceUrl": p.Verified.SourceURL,
	} {
		if value == "" {
			continue
		}
		if !strings.HasPrefix(value, "https://") && !p.beginsWithSentHost(value) {
			fail("%s: %q is not https", field, value)
		}
		if _, err := url.Parse(strings.NewReplacer("{", "", "}", "").Replace(value)); err != nil {
			fail("%s: %w", field, err)
		}
	}
	for field, value := range map[string]string{"docs": p.Docs, "authorizationUrl": p.AuthorizationURL, "tokenUrl": p.TokenURL} {
		if value == "" {
			fail("%s is empty", field)
		}
	}
	if len(p.AllowedHosts) == 0 {
		fail("allowedHosts is empty")
	}

	enum(fail, "clientAuth", p.ClientAuth, ClientAuthBasic, ClientAuthBody)
	enum(fail, "pkce", p.PKCE, "", PKCERequired, PKCERefused)
	enum(fail, "tokenEncoding", p.TokenEncoding, "", EncodingForm, EncodingJSON)
	enum(fail, "identity.source", p.Identity.Source, IdentityURL, IdentityIDToken, IdentityToken)
	enum(fail, "revoke.style", p.Revoke.Style, RevokeNone, RevokeForm, RevokeBearer, RevokeDelete)
	enum(fail, "revoke.scope", p.Revoke.Scope, "", RevokesToken, RevokesGrant)
	for i, sent := range p.SentHosts {
		enum(fail, fmt.Sprintf("sentHosts.%d.in", i), sent.In, SentInCallback, SentInToken)
		if sent.Field == "" || len(sent.Hosts) == 0 {
			fail("sentHosts.%d: field or hosts is empty", i)
		}
	}
	if (p.Identity.Source == IdentityURL) != (p.Identity.URL != "") {
		fail("identity.url: %q with source %q", p.Identity.URL, p.Identity.Source)
	}
	if none := p.Revoke.Style == RevokeNone; none != (p.Revoke.URL == "") || none != (p.Revoke.Scope == "") {
		fail("revoke: url %q and scope %q with style %q", p.Revoke.URL, p.Revoke.Scope, p.Revoke.Style)
	}
	if p.Refresh.SingleUse && !p.Refresh.Rotates {
		fail("refresh: single use without rotating")
	}
	p.checkFields(fail)
	p.checkTrust(fail, document)
	return errors.Join(errs...)
}

// checkFields checks the names of fields and codes.
func (p *Provider) checkFields(fail func(string, ...any)) {
	for field, value := range map[string]string{
		"tokenPath": p.TokenPath, "identity.subjectPath": p.Identity.SubjectPath, "identity.tenantPath": p.Identity.TenantPath,
		"identity.displayPath": p.Identity.DisplayPath, "tenantParam": p.TenantParam,
		"errors.codePath": p.Errors.CodePath, "errors.okStatusErrorPath": p.Errors.OKStatusErrorPath, "scopeParam": p.ScopeParam,
	} {
		if !fieldPath.MatchString(value) && (value != "" || field == "identity.subjectPath") {
			fail("%s: %q is no path", field, value)
		}
	}
	seen := map[string]bool{}
	for _, code := range slices.Concat(p.Errors.Permanent, p.Errors.Transient, p.Errors.RateLimited) {
		if len(code) > 64 || !errorCode.MatchString(code) || seen[code] {
			fail("errors: %q is no code, or is there twice", code)
		}
		seen[code] = true
	}
	for name, v := range p.Variables {
		pattern, err := regexp.Compile(`\A(?:` + v.Pattern + `)\z`)
		if err != nil {
			fail("variables.%s.pattern: %w", name, err)
		} else if v.Pattern != "" && v.Default != "" && !pattern.MatchString(v.Default) {
			fail("variables.%s.default: %q does not match the pattern", name, v.Default)
		}
	}
	if p.Limits.TokensPerUser < 0 {
		fail("limits.tokensPerUser: %d is negative", p.Limits.TokensPerUser)
	}
}

// checkTrust checks what says how far the entry can be trusted.
func (p *Provider) checkTrust(fail func(string, ...any), document map[string]any) {
	for i, d := range p.Deprecations {
		if !isDate(d.Date) || d.URL == "" || d.Replacement == "" {
			fail("deprecations.%d: date %q, url %q, replacement %q", i, d.Date, d.URL, d.Replacement)
		}
	}
	if _, said := document["verified"]; !said {
		fail("verified is missing: an entry says that it is not verified")
	}
	if v := p.Verified; (v != Verified{}) && (!isDate(v.Date) || v.SourceURL == "") {
		fail("verified: date %q, sourceUrl %q", v.Date, v.SourceURL)
	}
	for i, field := range p.Unverified {
		if !exists(document, field) || slices.Contains(p.Unverified[:i], field) {
			fail("unverified: %q is no field of the entry, or is there twice", field)
		}
	}
}

func (p *Provider) beginsWithSentHost(value string) bool {
	return slices.ContainsFunc(p.SentHosts, func(s SentHost) bool { return strings.HasPrefix(value, "{"+s.Field+"}/") })
}

func enum[T ~string](fail func(string, ...any), field string, value T, choices ...T) {
	if !slices.Contains(choices, value) {
		fail("%s: %q is none of %q", field, value, choices)
	}
}

func isDate(text string) bool {
	_, err := time.Parse(time.DateOnly, text)
	return err == nil
}

// exists reports whether an entry has a field at a path.
func exists(document map[string]any, field string) bool {
	var v any = document
	for name := range strings.SplitSeq(field, ".") {
		object, ok := v.(map[string]any)
		if !ok {
			return false
		}
		if v, ok = object[name]; !ok {
			return false
		}
	}
	return true
}
