package core

import (
	"github.com/polycred/polycred/core/catalog"
	"github.com/polycred/polycred/core/input"
	"github.com/polycred/polycred/core/internal/access"
	"github.com/polycred/polycred/core/internal/kernel"
	"github.com/polycred/polycred/core/internal/revocation"
	"github.com/polycred/polycred/crypto"
)

// goldenSet is one record for each table.
type goldenSet struct {
	credential      credentialRecord
	session         sessionRecord
	boot            bootRecord
	integration     integrationRecord
	clientSecret    clientSecretsRecord
	roster          rosterRecord
	claim           claimRecord
	externalID      externalIDRecord
	configuration   configurationRecord
	configurationID configurationIDRecord
	redirect        redirectRecord
	password        passwordRecord

	user       userRecord
	switches   switchesRecord
	revocation revocation.Record
	job        jobRecord

	signingKey  access.Key
	tokenIssuer access.Issuer
	policy      access.Policy
}

// goldenFormats are the records of each golden store, with every field set that the format had; those of later formats
// are zero in it.
var goldenFormats = map[int]goldenSet{1: goldenFormat1(), 2: goldenFormat2(), 3: goldenFormat3(), 4: goldenFormat4()}

func goldenFormat1() goldenSet {
	return goldenSet{
		credential: credentialRecord{
			tokenRecord: tokenRecord{
				ID: "01a203eb-3384-7e3b-82c8-3fdb75c2d558", Integration: "acme", Status: StatusValid,
				Variables: map[string]string{"subdomain": "x"}, AccessToken: crypto.NewSecret("access"), TokenType: "Bearer",
				Refreshed: 3, ValidUntil: 4, RefreshToken: crypto.NewSecret("refresh"), NextAttempt: 9,
			},
			ExternalID: "work", Owner: "person-1", Account: accountRecord{"https://acme.example.com", "t1", "s1", "s@example.com"},
			Scopes: []string{"a", "b"}, Created: 1, Updated: 2, ClientID: "client",
			PreviousRefreshToken: crypto.NewSecret("previous"), PreviousUntil: 5,
			Attempt: 6, Intent: &intentRecord{Attempt: 6, Fingerprint: []byte{1, 2}, Started: 7, Boot: "boot"}, Failures: 8, LastFailure: FailureTransient,
		},
		session: sessionRecord{
			ID: "id", User: "u", Integration: "acme", Phase: sessionDone, Browser: []byte{1}, Created: 1, Expires: 2, Owner: "o",
			Variables: map[string]string{"a": "b"}, ReturnURL: "https://r.example.com", AllowMultiple: true, Into: "i", ExternalID: "x",
			Verifier: crypto.NewSecret("verifier"), Nonce: crypto.NewSecret("nonce"), TokenURL: "https://t.example.com",
			RedirectURI: "https://c.example.com", ClientID: "client", Exchanging: 3, Credential: "c", Code: "denied", Text: "text",
		},
		boot: bootRecord{Boot: "b", Place: "p", Started: 1, Quarantined: true},
		integration: integrationRecord{
			Integration: Integration{
				Name: "acme", DisplayName: "Acme",
				OAuth2: &OAuth2{
					ClientID: "client", ClientAuth: ClientAuthBody, AuthorizationURL: "https://{v}.acme.example.com/a",
					TokenURL: "https://acme.example.com/t", RevocationURL: "https://acme.example.com/r", Issuer: "https://acme.example.com",
					RequireIssuer: true, Scopes: []string{"s"}, ScopeSeparator: ",", AuthorizationParams: map[string]string{"a": "1"},
					AddAccountParams: map[string]string{"b": "2"}, TokenParams: map[string]string{"c": "3"}, PKCE: PKCERequired,
				},
				APIKey: &APIKey{In: KeyHeader, Name: "X-Key", Prefix: "Token ", TestURL: "https://acme.example.com/me"},
				Identity: Identity{
					Source: IdentityURL, URL: "https://acme.example.com/me", SubjectPath: "sub", TenantPath: "tenant", DisplayPath: "name",
				},
				AllowedHosts: []string{"acme.example.com"},
				Variables:    map[string]Variable{"v": {Pattern: "[a-z]+", CustomerDomains: true}},
				SentHosts:    []SentHost{{"h", SentInToken, []string{"*.acme.example.com"}, true, true}}, SameAccount: SameAccountReject,
				OtherAccount: OtherAccountReplace,
			},
			Created: 1, Updated: 2, Deleting: true,
		},
		clientSecret: clientSecretsRecord{Secrets: []crypto.Secret{crypto.NewSecret("one"), crypto.NewSecret("two")}, Updated: 1},
		roster:       rosterRecord{Count: 3},
		claim:        claimRecord{Credentials: []string{"a", "b"}},
		externalID:   externalIDRecord{Credential: "a"},
	}
}

func goldenFormat2() goldenSet {
	g := goldenFormat1()

	values := map[string]any{"text": "x", "number": 1.5, "switch": true, "combo": map[string]any{"mainInput": "m"}, "list": []any{"a", 2.0}}
	secrets := map[string]crypto.Secret{"password": crypto.NewSecret("password")}
	g.credential.Label, g.credential.Setup, g.credential.SetupSecrets = "Label", values, secrets
	g.credential.Missing, g.credential.Generation = []string{"site"}, 10
	g.configuration = configurationRecord{
		ID: "g", ExternalID: "y", Settings: values, Passwords: []string{"password"}, Meta: map[string]any{"m": []any{"n", nil, false}},
		Created: 1, Updated: 2, Others: 3,
	}
	g.configurationID = configurationIDRecord{Configuration: "g"}

	s := &g.session
	s.Label, s.TokenID, s.Authority, s.Redirect, s.ProviderInitiated, s.Spent = "Label", "token", []byte{2}, true, true, []byte{3}
	g.redirect = redirectRecord{Session: "k"}
	g.password = passwordRecord{Secrets: secrets}

	in := &g.integration.Integration
	in.Provider, in.ProviderInitiated, in.Identity.TenantOptional = "google", true, true
	in.Variables["v"] = Variable{Pattern: "[a-z]+", CustomerDomains: true, Default: "w"}
	site := input.Input{
		ID: "site", Type: input.Enum, Title: "Site", Tooltip: "Which", Placeholder: "none", Required: true, Default: "north",
		Options: []input.Option{{Value: "north", Label: "North"}},
	}
	in.Settings, in.Setup = []input.Input{site}, []input.Input{site}
	o := in.OAuth2
	o.TokenEncoding, o.TokenPath, o.ScopeParam, o.TenantParam, o.TokensPerUser = TokenJSON, "authed_user", "user_scope", "realmId", 4
	o.NonceOptional = true
	o.Revocation = Revocation{Style: RevocationBearer, Scope: RevokesGrant}
	o.Refresh = RefreshTokens{
		Rotation: RotationSingleUse, Grace: catalog.Duration(1), IdleTTL: catalog.Duration(2), MaxTTL: catalog.Duration(3), MinInterval: catalog.Duration(4),
	}
	o.Errors = TokenErrors{
		Permanent: []string{"p"}, Transient: []string{"t"}, RateLimited: []string{"r"}, CodePath: "c", OKStatusErrorPath: "o",
	}
	return g
}

func goldenFormat3() goldenSet {
	g := goldenFormat2()

	c := &g.credential
	c.By, c.Disabled, c.Wait, c.PausedBy = 11, true, 12, 13
	c.FailureCode, c.Due, c.Identified = "server_error", 14, 15
	c.Intent.Since, c.Intent.Ended = 16, true
	c.Incomplete = true

	g.user = userRecord{Created: 1, Disabled: true, Deleting: true}
	g.switches = switchesRecord{Version: 2}
	g.revocation = revocation.Record{
		ID: "q", User: "u", Credential: "k", Integration: "acme", ClientID: "client", Account: revocation.Account(c.Account), Variables: c.Variables,
		Created: 1, Attempts: 2, LastFailure: string(FailureTransient), FailureCode: "server_error", Due: 3,
		AccessToken: crypto.NewSecret("access"), ValidUntil: 4, RefreshToken: crypto.NewSecret("refresh"), RefreshEnded: true,
		Endpoint: revocation.Endpoint{
			URL: "https://acme.example.com/r", Style: string(RevocationBearer), Scope: string(RevokesGrant), ClientAuth: string(ClientAuthBody),
			Encoding: string(TokenJSON), Errors: revocation.Codes(g.integration.Integration.OAuth2.Errors.codes()), Secrets: g.clientSecret.Secrets,
			TokenURL: "https://acme.example.com/t", TokenParams: map[string]string{"c": "3"}, TokenPath: "authed_user",
		},
	}
	g.job = jobRecord{
		ID: "p", Created: 1, Ended: 2, Until: "k", After: "j", Total: 3, Done: 4,
		Report: reportRecord{Integrations: map[string]int{"acme": 5}, Queued: 6, Unrevocable: 7, Shared: 8, Damaged: 9, Sessions: 10},
	}
	return g
}

func goldenFormat4() goldenSet {
	g := goldenFormat3()

	g.session.PollingKey = []byte{4}
	in := &g.integration.Integration
	in.APIURL, in.Headers, in.PickerTokens = "https://acme.example.com/v1", map[string]string{"X-Version": "2"}, true
	g.user.Meta = map[string]any{"Name": "Ada", "tags": []any{"a", 1.5, true}, "more": map[string]any{"n": "m"}}

	g.signingKey = access.Key{ID: "k", PublicKey: "PEM", Label: "Label", Created: 1}
	g.tokenIssuer = access.Issuer{
		Issuer: "https://i.example.com", Audiences: []string{"aud"}, KeysURL: "https://i.example.com/keys", Algorithms: []string{"RS256"},
		Created: 1, Updated: 2,
	}
	g.policy = access.Policy{Name: "p", Document: []byte(`{"integration:*":true}`), Created: 1, Updated: 2}
	return g
}

// goldenEvent is what lies in the outbox and in the log.
var goldenEvent = kernel.Event{
	ID: "e", Time: 1, Kind: "credential.connected", Actor: "user", Person: "person-1", TokenID: "token",
	User: "u", Integration: "acme", Credential: "k", Configuration: "g", Revision: 1 << 60,
	Cause: "connect", Result: "ok", Details: map[string]string{"status": "VALID"},
}
