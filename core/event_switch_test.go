package core_test

import (
	"time"

	"github.com/polycred/polycred/core"
)

// switches tells of accounts and users that are switched off and on, and of those that go all at once.
func (s *story) switches() {
	s.Helper()
	ctx, e, u := s.Context(), s.engine, s.engine.User("hooli").As("pat")
	account := s.mustConnect("hooli", "cyd", core.ConnectInput{ExternalID: "work"})
	s.after = uint64(len(s.events(0)))
	operator := core.Actor{Type: core.ActorOperator}
	of := func(kind core.EventKind) core.Event {
		return core.Event{
			Kind: kind, Actor: core.Actor{Type: core.ActorUser, Person: "pat"}, User: "hooli", Integration: calendar, Credential: account.ID,
			Revision: changed, Cause: "request", Result: "ok",
		}
	}
	sel := core.Selector{Credential: account.ID}
	s.tells("disabling an account", func() error { return u.Disable(ctx, sel) }, of(core.EventDisabled))
	s.tells("disabling it again", func() error { return u.Disable(ctx, sel) })
	s.tells("enabling it", func() error { return u.Enable(ctx, sel) }, of(core.EventEnabled))

	byOperator := func(kind core.EventKind) core.Event {
		return core.Event{Kind: kind, Actor: operator, User: "hooli", Cause: "request", Result: "ok"}
	}
	s.tells("disabling a user", func() error { return e.DisableUser(ctx, "hooli") }, byOperator(core.EventUserDisabled))
	s.tells("enabling a user", func() error { return e.EnableUser(ctx, "hooli") }, byOperator(core.EventUserEnabled))

	lost := of(core.EventInvalidated)
	lost.Actor, lost.Cause, lost.Result = operator, "revoke", "revoked"
	revoked := core.Event{
		Kind: core.EventIntegrationRevoked, Actor: operator, Integration: calendar, Cause: "request", Result: "ok",
		Details: map[string]string{"credentials": "1", "queued": "0", "unrevocable": "1", "shared": "0", "damaged": "0"},
	}
	for _, user := range []string{"acme", "initech"} { // only hooli's is left to be revoked
		if _, err := e.DeleteUser(ctx, user, nil); err != nil {
			s.Fatal(err)
		}
	}
	s.after = uint64(len(s.events(0)))
	s.tells("revoking an integration", func() error {
		_, err := e.RevokeCredentials(ctx, calendar, nil)
		return err
	}, lost, revoked)
	gone := of(core.EventDisconnected)
	gone.Actor, gone.Cause, gone.Details = operator, "delete_user", map[string]string{"externalId": "work"}
	deleted := byOperator(core.EventUserDeleted)
	deleted.Details = map[string]string{"credentials": "1", "queued": "0", "unrevocable": "1", "shared": "0", "damaged": "0", "sessions": "1"}
	s.tells("deleting a user", func() error {
		_, err := e.DeleteUser(ctx, "hooli", nil)
		return err
	}, gone, deleted)

	// What was disconnected is revoked, by nobody's call.
	s.world.change(func(in *core.Integration) { in.OAuth2.RevocationURL = s.provider.RevocationURL() })
	account = s.mustConnect("hooli", "cyd", core.ConnectInput{})
	s.disconnect("hooli", account.ID)
	s.after = uint64(len(s.events(0)))
	s.tells("having the provider revoke it", func() error {
		s.clock.Advance(time.Minute)
		return nil
	}, core.Event{
		Kind: core.EventRevoked, Actor: core.Actor{Type: core.ActorEngine}, User: "hooli", Integration: calendar, Credential: account.ID,
		Cause: "revocation", Result: "ok", Details: map[string]string{"attempts": "1"},
	})
}
