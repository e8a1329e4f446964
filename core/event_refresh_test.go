package core_test

import (
	"time"

	"github.com/polycred/polycred/core"
)

// refused tells of a refresh that is answered for another account than the one that was connected.
func (s *story) refused(sel core.Selector, told func(core.EventKind, string, map[string]string) core.Event) {
	s.Helper()
	ev := told(core.EventRefreshRefused, "refresh", nil)
	ev.Actor, ev.Result = core.Actor{Type: core.ActorEngine}, "other_account"
	refresh := func() error {
		s.clock.Advance(2 * time.Hour)
		_, err := s.acme("").Token(s.Context(), sel)
		s.wantErr("Token", err, core.ErrProvider)
		return nil
	}
	s.claims(map[string]any{"sub": "cyd"})
	s.tells("being answered for another account", refresh, ev)
	s.tells("being answered for it again", refresh)
	s.claims(nil)
}
