package core

import (
	"reflect"
	"testing"
)

// Joined returns how many callers joined a refresh that is under way, and which it remembers until the provider answers.
func (e *Engine) Joined() int {
	joined := 0
	for calls := reflect.ValueOf(&e.refreshes).Elem().FieldByName("m").MapRange(); calls.Next(); {
		joined += int(calls.Value().Elem().FieldByName("dups").Int())
	}
	return joined
}

// Who asks each tenant at its own host keeps their accounts apart, also where one issuer is set for all.
func TestSecurity10_TenantsByHost(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, identity string
		apart          bool
	}{
		{"a host for each", "https://{tenant}.zendesk.com/me", true},
		{"a path for each", "https://api.zendesk.com/{tenant}/me", false},
		{"one for all", "https://api.zendesk.com/me", false},
	} {
		p, err := newProvider(Integration{
			Name: "i",
			OAuth2: &OAuth2{
				ClientID: "c", ClientAuth: ClientAuthNone, Issuer: "https://issuer.example.com",
				AuthorizationURL: "https://{tenant}.zendesk.com/authorize", TokenURL: "https://{tenant}.zendesk.com/token",
			},
			Variables: map[string]Variable{"tenant": {}},
			Identity:  Identity{Source: IdentityURL, URL: tt.identity, SubjectPath: "id"},
		})
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		var accounts []ProviderAccount
		for _, host := range []string{"a.zendesk.com", "b.zendesk.com"} {
			account, err := p.account(map[string]any{"id": "1"}, host)
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			accounts = append(accounts, account)
		}
		if got := !accounts[0].Same(accounts[1]); got != tt.apart {
			t.Errorf("%s: user 1 of two tenants apart = %t, want %t", tt.name, got, tt.apart)
		}
	}
}
