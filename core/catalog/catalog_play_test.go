package catalog_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
)

// Each provider's answers become what they mean.
func TestPlays(t *testing.T) {
	t.Parallel()
	for _, p := range plays {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, &p)
			s.connected()
			if p.access != "" {
				s.refreshed()
			}
		})
	}
}

// connected plays the good answer.
func (s *stage) connected() {
	s.Helper()
	p := s.play
	credential := s.mustConnect("u", p.exchange)
	want := p.account
	want.Issuer = s.text(want.Issuer)
	if credential.Account != want {
		s.Errorf("account = %+v, want %+v", credential.Account, want)
	}
	if diff := cmp.Diff(p.granted, credential.Scopes, cmpopts.EquateEmpty()); diff != "" {
		s.Errorf("scopes differ (-want +got):\n%s", diff)
	}
	if got := credential.ValidUntil; got.IsZero() != (p.lifetime == 0) || (p.lifetime > 0 && !got.Equal(s.clock.Now().Add(p.lifetime))) {
		s.Errorf("valid until %v, want %v from %v", got, p.lifetime, s.clock.Now())
	}
	s.carries(coretest.EndpointExchange, "authorization_code", nil)
	asked := s.server.LastAuthorization()
	for name, value := range p.authorize {
		if got := asked.Get(name); got != value {
			s.Errorf("authorization request: %s = %q, want %q", name, got, value)
		}
	}
	if asked.Get("code_challenge_method") != "S256" {
		s.Errorf("authorization request: no PKCE in %v", asked)
	}
}

// carries checks the last token request.
func (s *stage) carries(e coretest.Endpoint, grant string, more map[string]string) {
	s.Helper()
	r, _ := s.server.Last(e)
	encoding := s.play.encoding
	if encoding == "" {
		encoding = "application/x-www-form-urlencoded"
	}
	if got := r.Header.Get("Content-Type"); got != encoding {
		s.Errorf("%s request: Content-Type %q, want %q", e, got, encoding)
	}
	want := map[string]string{"grant_type": grant}
	for _, params := range []map[string]string{s.play.form, more} {
		for name, value := range params {
			want[name] = value
		}
	}
	for name, value := range want {
		if got := r.Form.Get(name); got != value {
			s.Errorf("%s request: %s = %q, want %q", e, name, got, value)
		}
	}
}

// refreshed plays two refreshes.
func (s *stage) refreshed() {
	s.Helper()
	p := s.play
	credential := s.mustConnect("v", p.exchange)
	s.server.Set(func(sw *coretest.Switches) { sw.Refresh = answer(http.StatusOK, s.text(p.refresh), nil) })
	for _, spent := range p.spends {
		if err := s.use("v", credential); err != nil {
			s.Fatalf("refresh: %v", err)
		}
		s.carries(coretest.EndpointRefresh, "refresh_token", map[string]string{"refresh_token": spent})
		credential = s.credential("v", credential.ID)
		if got := credential.ValidUntil; got.IsZero() != (p.afterRefresh == 0) || (p.afterRefresh > 0 && !got.Equal(s.clock.Now().Add(p.afterRefresh))) {
			s.Errorf("valid until %v, want %v from %v", got, p.afterRefresh, s.clock.Now())
		}
		if diff := cmp.Diff(p.granted, credential.Scopes, cmpopts.EquateEmpty()); diff != "" {
			s.Errorf("scopes after a refresh differ (-want +got):\n%s", diff)
		}
		token, err := s.engine.User("v").Token(s.Context(), core.Selector{Credential: credential.ID})
		if err != nil || token.Value.Reveal() != p.access {
			s.Errorf("Token() = %q, %v, want %q", token.Value.Reveal(), err, p.access)
		}
	}
	if got := s.server.Calls().Refresh; got != len(p.spends) {
		s.Errorf("%d refreshes, want %d", got, len(p.spends))
	}
}

// Each provider's errors get their class, and only what is known of them is repeated.
func TestPlayedErrors(t *testing.T) {
	t.Parallel()
	for _, p := range plays {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, &p)
			if len(p.errors) == 0 {
				t.Error("no errors are played")
			}
			for i, f := range p.errors {
				if f.status == 0 {
					f.status = http.StatusOK
				}
				if !strings.Contains(f.body, "canary") {
					t.Fatalf("the error %s has no canary", f.body)
				}
				user := fmt.Sprintf("u%d", i)
				if f.exchange {
					_, err := s.connect(user, answer(f.status, f.body, f.header), core.ConnectInput{})
					s.failed(&f, err)
					continue
				}
				s.refusedRefresh(user, &f)
			}
		})
	}
}

// failed checks a ProviderError.
func (s *stage) failed(f *failure, err error) {
	s.Helper()
	var got *core.ProviderError
	if !errors.As(err, &got) {
		s.Errorf("%d %s: error %v, want a ProviderError", f.status, f.body, err)
		return
	}
	if got.Class != f.class || got.Code != f.code || got.Status != f.status || errors.Is(err, core.ErrMisconfigured) != f.setup {
		s.Errorf("%d %s = class %q, code %q, status %d, misconfigured %t; want %q, %q, %d, %t",
			f.status, f.body, got.Class, got.Code, got.Status, errors.Is(err, core.ErrMisconfigured), f.class, f.code, f.status, f.setup)
	}
}

func (s *stage) refusedRefresh(user string, f *failure) {
	s.Helper()
	resolved, err := core.Resolve(s.integration())
	if err != nil {
		s.Fatal(err)
	}
	credential := s.mustConnect(user, s.lasting(s.play.exchange, strings.Trim(resolved.OAuth2.TokenPath, ".")))
	s.server.Set(func(sw *coretest.Switches) { sw.Refresh = answer(f.status, f.body, f.header) })
	err = s.use(user, credential)
	if err == nil {
		s.Errorf("%d %s: no error", f.status, f.body)
		return
	}
	s.clean(err.Error())
	credential = s.credential(user, credential.ID)
	if invalid := credential.Status == core.StatusInvalid; invalid != f.invalid || credential.LastFailure != f.class {
		s.Errorf("%d %s: status %s, last failure %q; want invalid %t, %q", f.status, f.body, credential.Status, credential.LastFailure, f.invalid, f.class)
	}
	if f.invalid { // the class is the credential's, the code stands in the text
		if !errors.Is(err, core.ErrReconnect) || !strings.Contains(err.Error(), fmt.Sprintf("(status %d, %s)", f.status, f.code)) {
			s.Errorf("%d %s: error %v, want ErrReconnect with code %q", f.status, f.body, err, f.code)
		}
		return
	}
	s.failed(f, err)
}

// named returns the play of that name.
func named(t *testing.T, name string) *play {
	t.Helper()
	i := slices.IndexFunc(plays, func(p play) bool { return p.name == name })
	if i < 0 {
		t.Fatalf("there is no play %s", name)
	}
	return &plays[i]
}

// Google and Zoho send a refresh token only with the first consent: the one there is stays good.
func TestPlayedConsentWithoutRefreshToken(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"google", "zoho"} {
		s := newStage(t, named(t, name))
		first := s.mustConnect("u", s.play.exchange)
		again := strings.Replace(s.play.exchange, `"refresh_token":"rt-1",`, "", 1)
		second, err := s.connect("u", answer(http.StatusOK, again, nil), core.ConnectInput{Into: first.ID})
		if err != nil || second.ID != first.ID {
			t.Fatalf("%s: connected again as %+v, %v", name, second, err)
		}
		s.server.Set(func(sw *coretest.Switches) { sw.Refresh = answer(http.StatusOK, s.text(s.play.refresh), nil) })
		if err := s.use("u", second); err != nil {
			t.Errorf("%s: refresh: %v", name, err)
		}
		s.carries(coretest.EndpointRefresh, "refresh_token", map[string]string{"refresh_token": "rt-1"})
	}
}

// QuickBooks: the company that the browser names counts only where the id_token does not say another.
func TestPlayedRealm(t *testing.T) {
	t.Parallel()
	s := newStage(t, named(t, "quickbooks"))
	realm := func(id string) {
		s.server.Set(func(sw *coretest.Switches) { sw.ExtraCallbackParams = map[string]string{"realmId": id} })
	}
	good := s.play.exchange
	realm("1")
	_, err := s.connect("u", answer(http.StatusOK, good, nil), core.ConnectInput{})
	var failed *core.ProviderError
	if !errors.As(err, &failed) || failed.Op != "identity" || failed.Class != permanent {
		t.Errorf("another company than the token's: error %v, want a permanent one", err)
	}
	silent := strings.Replace(s.play.exchange, `"realmid":"9130347957983546",`, "", 1)
	credential, err := s.connect("u", answer(http.StatusOK, silent, nil), core.ConnectInput{})
	if err != nil || credential.Account.Tenant != "1" {
		t.Errorf("a token that names no company = %+v, %v, want that of the callback", credential.Account, err)
	}
}

// Salesforce and Zoho: the hosts that an answer names are believed only from the catalog's list, and an account may be
// used only there.
func TestPlayedHosts(t *testing.T) {
	t.Parallel()
	p := *named(t, "salesforce")
	p.change = func(in *core.Integration, _ *coretest.OAuthServer) { in.Identity.URL = "" }
	for _, host := range []string{"https://evil.example", "https://salesforce.com.evil.example", "http://acme.my.salesforce.com", "https://evilsalesforce.com", ""} {
		s := newStage(t, &p)
		_, err := s.connect("u", answer(http.StatusOK, strings.Replace(p.exchange, "ORIGIN", host, 1), nil), core.ConnectInput{})
		var failed *core.ProviderError
		if !errors.As(err, &failed) || failed.Op != "exchange" || !strings.Contains(failed.Reason, "instance_url") {
			t.Errorf("instance_url %q: error %v, want it refused", host, err)
		}
	}

	s := newStage(t, named(t, "zoho"))
	credential := s.mustConnect("u", s.play.exchange)
	client, err := s.engine.User("u").Client(t.Context(), core.Selector{Credential: credential.ID})
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"https://www.zohoapis.com", "https://accounts.zoho.eu", s.server.URL()} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, host+"/crm/v8/Leads", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		if !errors.Is(err, core.ErrHostNotAllowed) {
			t.Errorf("%s: error %v, want %v: the account lives at www.zohoapis.eu", host, err, core.ErrHostNotAllowed)
		}
	}
}

// HubSpot: two people of one hub are two accounts.
func TestPlayedPeopleOfAHub(t *testing.T) {
	t.Parallel()
	s := newStage(t, named(t, "hubspot"))
	first := s.mustConnect("u", s.play.exchange)
	other := strings.Replace(s.play.exchange, `"user_id":298437`, `"user_id":298438`, 1)
	second, err := s.connect("u", answer(http.StatusOK, other, nil), core.ConnectInput{AllowMultiple: true})
	if err != nil || second.ID == first.ID || second.Account.Tenant != first.Account.Tenant {
		t.Errorf("another person of the hub = %+v, %v, want another account than %+v", second.Account, err, first.Account)
	}
	_, err = s.connect("u", answer(http.StatusOK, other, nil), core.ConnectInput{Into: first.ID})
	if !errors.Is(err, core.ErrAccountMismatch) {
		t.Errorf("another person into the account of the first: error %v, want ErrAccountMismatch", err)
	}
}

// An answer that lacks the tenant is no account: not one of these providers has accounts without.
func TestPlayedWithoutTenant(t *testing.T) {
	t.Parallel()
	for name, tenant := range map[string]string{
		"microsoft": `"tid":"72f988bf-86f1-41af-91ab-2d7cd011db47",`, "slack": `"team":{"id":"T1","name":"Acme"}`,
		"notion": `"workspace_id":"b0688871-7d83-4ca5-8dc7-2f7ff3d0bf8e",`, "hubspot": `"hub_id":62515,`, "salesforce": `"organization_id":"00D50000000IZ3ZEAW",`,
	} {
		p := *named(t, name)
		without := strings.Replace(tenant, `"team":{"id":"T1","name":"Acme"}`, `"team":null`, 1)
		if without == tenant {
			without = ""
		}
		exchange := strings.Replace(p.exchange, tenant, without, 1)
		p.userInfo = strings.Replace(p.userInfo, tenant, without, 1)
		if exchange == p.exchange && p.userInfo == named(t, name).userInfo {
			t.Fatalf("%s: the play has no %s", name, tenant)
		}
		s := newStage(t, &p)
		_, err := s.connect("u", answer(http.StatusOK, exchange, nil), core.ConnectInput{})
		var failed *core.ProviderError
		if !errors.As(err, &failed) || failed.Op != "identity" || !errors.Is(err, core.ErrMisconfigured) {
			t.Errorf("%s without tenant: error %v, want it refused", name, err)
		}
	}
}

// Slack: an installation for a whole organisation is known by that, or by nothing, where an integration says so.
func TestPlayedOrganisation(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*core.Identity){
		"E1": func(id *core.Identity) { id.TenantPath = "enterprise.id" },
		"":   func(id *core.Identity) { id.TenantOptional = true },
	} {
		p := *named(t, "slack")
		p.change = func(in *core.Integration, _ *coretest.OAuthServer) { change(&in.Identity) }
		s := newStage(t, &p)
		exchange := strings.NewReplacer(`"team":{"id":"T1","name":"Acme"}`, `"team":null`, `"enterprise":null`, `"enterprise":{"id":"E1","name":"Acme"}`).Replace(p.exchange)
		if got := s.mustConnect("u", exchange).Account; got.Tenant != want || got.Subject != "U1" {
			t.Errorf("account = %+v, want U1 of %q", got, want)
		}
	}
}
