package oauth

import (
	"bytes"
	"encoding/json"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/polycred/polycred/crypto"
)

// maxToken is the most bytes that one token may have.
const maxToken = 32 << 10

// maxScopes is the most bytes that the scopes of one token may have together.
const maxScopes = 32 << 10

// maxLifetime caps what a provider claims, far beyond any real token.
const maxLifetime = 10 * 365 * 24 * time.Hour

// Answer is a good answer of a token endpoint.
type Answer struct {
	AccessToken  crypto.Secret
	RefreshToken crypto.Secret // empty when the answer had none
	IDToken      crypto.Secret // empty when the answer had none
	TokenType    string
	// Lifetime is how long the access token is good from now; 0 when the answer did not say so, or said nonsense.
	Lifetime time.Duration
	Scopes   []string       // from scope or, as a list, scopes; nil when the answer did not say: then those that were asked for were granted (RFC 6749 §5.1)
	Fields   map[string]any // the whole answer, with json.Number for numbers; it holds tokens
}

// parse reads the answer of a token endpoint, in JSON or, as older providers have it, as a form.
func (e *Endpoint) parse(status int, header http.Header, body []byte, refresh bool) (*Answer, *Error) {
	fields := decode(header.Get("Content-Type"), body)
	ok := status >= 200 && status <= 299
	switch {
	case !ok || e.failed(fields):
		code := e.Codes.read(fields, ok)
		return nil, &Error{
			Class: e.Codes.classify(status, code, refresh), Status: status, Code: code, RetryAfter: retryAfter(header, e.Now()),
			Reason: "the provider refused",
		}
	case fields == nil:
		return nil, &Error{Class: Transient, Status: status, Reason: "the provider's answer is neither JSON nor a form"}
	}

	tokens := e.tokens(fields, refresh)
	token, _ := tokens["access_token"].(string)
	if reason := checkToken(token); reason != "" {
		return nil, &Error{Class: Transient, Status: status, Reason: "the provider's answer has " + reason}
	}
	refreshToken, _ := tokens["refresh_token"].(string)
	if len(refreshToken) > maxToken {
		return nil, &Error{Class: Transient, Status: status, Reason: "the provider's answer has a refresh_token that is too long"}
	}
	id, _ := tokens["id_token"].(string)
	if id == "" {
		id, _ = fields["id_token"].(string)
	}
	tokenType, _ := tokens["token_type"].(string)
	answer := &Answer{
		AccessToken: crypto.NewSecret(token), RefreshToken: crypto.NewSecret(refreshToken), IDToken: crypto.NewSecret(id),
		TokenType: cleanType(tokenType), Lifetime: lifetime(tokens["expires_in"]), Fields: fields,
	}
	if answer.Scopes = granted(tokens["scope"]); answer.Scopes == nil {
		answer.Scopes = granted(tokens["scopes"]) // HubSpot
	}
	if len(strings.Join(answer.Scopes, " ")) > maxScopes {
		return nil, &Error{Class: Transient, Status: status, Reason: "the provider's answer has a scope that is too long"}
	}
	return answer, nil
}

// failed reports whether an answer with status 200 is an error all the same.
func (e *Endpoint) failed(fields map[string]any) bool {
	code, _ := fields["error"].(string)
	good, told := fields["ok"].(bool)
	return code != "" || (told && !good) || (e.Codes.OKPath != "" && Field(fields, e.Codes.OKPath) != "")
}

// tokens returns the object of an answer that holds the tokens. A refresh may answer with them at the top although the
// exchange had them further in, as Slack does with those of a user.
func (e *Endpoint) tokens(fields map[string]any, refresh bool) map[string]any {
	if e.TokenPath == "" {
		return fields
	}
	inner := object(fields, e.TokenPath)
	if _, here := inner["access_token"]; refresh && !here {
		return fields
	}
	return inner
}

// granted reads scope: a text, or a list as Twitch sends it; nil when it is neither.
func granted(v any) []string {
	switch v := v.(type) {
	case string:
		return SplitScopes(v)
	case []any:
		scopes := make([]string, 0, len(v))
		for _, element := range v {
			if scope, ok := element.(string); ok && scope != "" {
				scopes = append(scopes, scope)
			}
		}
		return scopes
	default:
		return nil
	}
}

// SplitScopes splits a scope list at spaces and commas: providers answer with either, whatever they were asked with.
func SplitScopes(list string) []string {
	scopes := strings.FieldsFunc(list, func(r rune) bool { return r == ' ' || r == ',' })
	return slices.Clip(scopes)
}

// decode returns the fields of an answer, nil when it has none.
func decode(contentType string, body []byte) map[string]any {
	if media, _, _ := mime.ParseMediaType(contentType); media == "application/x-www-form-urlencoded" {
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return nil
		}
		fields := make(map[string]any, len(form))
		for name, values := range form {
			fields[name] = values[0]
		}
		return fields
	}
	fields, err := Object(body)
	if err != nil {
		return nil
	}
	return fields
}

// Object decodes a JSON object, keeping numbers as they are written: ids are often larger than a float holds.
func Object(body []byte) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var fields map[string]any
	err := d.Decode(&fields)
	return fields, err
}

// checkToken says what is wrong with an access token; it goes into a header (RFC 6750 §2.1 allows less than this).
func checkToken(token string) string {
	switch {
	case token == "":
		return "no access_token"
	case len(token) > maxToken:
		return "an access_token that is too long"
	}
	for i := range len(token) {
		if token[i] < 0x20 || token[i] > 0x7e {
			return "an access_token with characters that no header may carry"
		}
	}
	return ""
}

// lifetime reads expires_in as providers write it: a number or a string, whole or not. Anything that is not a positive
// number says nothing about the end.
func lifetime(v any) time.Duration {
	var text string
	switch v := v.(type) {
	case json.Number:
		text = v.String()
	case string:
		text = strings.TrimSpace(v)
	default:
		return 0
	}
	if strings.Trim(text, "0123456789+-.eE") != "" { // neither hexadecimal nor infinite
		return 0
	}
	seconds, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil, seconds <= 0:
		return 0
	case seconds >= maxLifetime.Seconds():
		return maxLifetime
	}
	return time.Duration(seconds * float64(time.Second))
}

// Field returns the text or number at a path of names with dots between, as text; "" when there is none.
func Field(fields map[string]any, path string) string {
	name := path
	if i := strings.LastIndexByte(path, '.'); i >= 0 {
		fields, name = object(fields, path[:i]), path[i+1:]
	}
	switch v := fields[name].(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	default:
		return ""
	}
}

// object returns the object at a path, nil when there is none.
func object(fields map[string]any, path string) map[string]any {
	for name := range strings.SplitSeq(path, ".") {
		fields, _ = fields[name].(map[string]any)
	}
	return fields
}
