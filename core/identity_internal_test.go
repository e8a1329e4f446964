package core

import "testing"

// An issuer stands for all accounts only where one host tells them.
func TestSecurity10_IssuerOfManyHosts(t *testing.T) {
	t.Parallel()
	const issuer = "https://example.com"
	sent := []SentHost{{Field: "api", In: SentInCallback, Hosts: []string{"*.example.com"}}, {Field: "server", In: SentInCallback, TokenHost: true, Hosts: []string{"a.example.com"}}}
	for _, tt := range []struct {
		name     string
		identity Identity
		tokenURL string
		sent     []SentHost
		want     string
	}{
		{"token", Identity{Source: IdentityToken}, "https://example.com/t", nil, issuer},
		{"token, a variable in the path", Identity{Source: IdentityToken}, "https://example.com/{shop}/t", nil, issuer},
		{"token, a variable host", Identity{Source: IdentityToken}, "https://{shop}.example.com/t", nil, "host"},
		{"token, a sent host for data", Identity{Source: IdentityToken}, "https://example.com/t", sent[:1], issuer},
		{"token, a sent host for tokens", Identity{Source: IdentityToken}, "https://example.com/t", sent, "host"},
		{"URL", Identity{Source: IdentityURL, URL: "https://example.com/me"}, "https://{shop}.example.com/t", sent, issuer},
		{"URL, a variable host", Identity{Source: IdentityURL, URL: "https://{shop}.example.com/me"}, "https://example.com/t", nil, "host"},
		{"URL, a sent host", Identity{Source: IdentityURL, URL: "{api}/me"}, "https://example.com/t", sent, "host"},
		{"id_token", Identity{Source: IdentityIDToken}, "https://{shop}.example.com/t", nil, issuer},
	} {
		tt.identity.SubjectPath = "id"
		p, err := newProvider(Integration{
			Name: "x", Variables: map[string]Variable{"shop": {}}, SentHosts: tt.sent, Identity: tt.identity,
			OAuth2: &OAuth2{ClientID: "c", AuthorizationURL: "https://example.com/a", TokenURL: tt.tokenURL, Issuer: issuer},
		})
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if got, err := p.account(map[string]any{"id": "1"}, "host"); err != nil || got.Issuer != tt.want {
			t.Errorf("%s: account() = %+v, %v, want issuer %s", tt.name, got, err, tt.want)
		}
	}
}
