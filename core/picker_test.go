package core_test

import (
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/usertoken"
)

// A picker's token leaves where the integration allows it, to whoever may use the account, or else to who may take tokens out;
// and that it did is told.
func TestSecurity16_PickerToken(t *testing.T) {
	t.Parallel()
	d := newEntrance(t, nil, nil)
	ada := d.mustConnect("acme", "ada", core.ConnectInput{})
	sel := core.Selector{Integration: calendar}
	for _, tt := range []struct {
		name, claim string
		on          bool // Integration.PickerTokens
		want        error
	}{
		{"no claim, off", "", false, core.ErrPermission},
		{"true, off", `{"integration:*": true}`, false, core.ErrPermission},
		{"token, off", `{"integration:*": ["credential:read", "credential:token"]}`, false, nil},
		{"no claim, on", "", true, nil},
		{"proxy, on", `{"integration:*": ["credential:read", "proxy"]}`, true, nil},
		{"read only, on", `{"integration:*": ["credential:read"]}`, true, core.ErrPermission},
		{"another one's, on", `{"integration:mail": true}`, true, core.ErrNotConnected},
	} {
		d.change(func(in *core.Integration) { in.PickerTokens = tt.on })
		d.clock.Advance(6 * time.Second)
		in := usertoken.MintInput{}
		if tt.claim != "" {
			in = claims(tt.claim)
		}
		token, err := d.enter(in).PickerToken(t.Context(), sel)
		if d.wantErr(tt.name, err, tt.want); err == nil && (token.Credential != ada.ID || d.whose(token.Value.Reveal()) != "ada@example.com") {
			t.Errorf("%s: a token of %s, want ada's", tt.name, token.Credential)
		}
	}
	d.clock.Advance(time.Minute)
	told := false
	for _, ev := range d.events(0) {
		told = told || ev.Kind == core.EventUsed && ev.Cause == "picker" && ev.Credential == ada.ID && ev.Actor.TokenID != ""
	}
	if !told {
		t.Error("no event tells that a token went to a picker")
	}
}
