package core

import (
	"errors"
	"net/http"
	"testing"
)

// Accounts that were connected before there was a variable may be used where its default leads, and nowhere else.
func TestAllowsDefaults(t *testing.T) {
	t.Parallel()
	p, err := newProvider(Integration{
		Name: "x", APIKey: &APIKey{TestURL: "https://example.com/me"}, Variables: map[string]Variable{"site": {Default: "login"}},
		AllowedHosts: []string{"{site}.example.com"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		host string
		vars map[string]string
		want bool
	}{
		{"login.example.com", nil, true},
		{"test.example.com", nil, false},
		{"test.example.com", map[string]string{"site": "test"}, true},
		{"login.example.com", map[string]string{"site": "test"}, false},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+tt.host+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.allows(req, tt.vars); (err == nil) != tt.want || err != nil && !errors.Is(err, ErrHostNotAllowed) {
			t.Errorf("allows(%s, %v) = %v, want ok = %t", tt.host, tt.vars, err, tt.want)
		}
	}
}
