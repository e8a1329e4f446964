package core_test

import "github.com/polycred/polycred/core"

// declares tells of what an operator declares about user tokens, and of what a user stores of itself.
func (s *story) declares() {
	s.Helper()
	ctx, e := s.Context(), s.engine
	s.after = uint64(len(s.events(0)))
	byOperator := func(kind core.EventKind, what, name string) core.Event {
		return core.Event{
			Kind: kind, Actor: core.Actor{Type: core.ActorOperator}, Cause: "request", Result: "ok", Details: map[string]string{what: name},
		}
	}
	key, err := e.AddSigningKey(ctx, core.SigningKeyInput{PublicKey: publicPEM(testKey(0)), Label: "first"})
	s.tells("adding a signing key", func() error { return err }, byOperator(core.EventSigningKeyAdded, "key", key.ID))
	s.tells("adding it again", func() error {
		_, err := e.AddSigningKey(ctx, core.SigningKeyInput{PublicKey: publicPEM(testKey(0))})
		return err
	})
	s.tells("revoking a signing key", func() error { return e.RevokeSigningKey(ctx, key.ID) }, byOperator(core.EventSigningKeyRevoked, "key", key.ID))

	const issuer = "https://issuer.example.com"
	s.tells("declaring a token issuer", func() error {
		_, err := e.SetTokenIssuer(ctx, core.TokenIssuer{Issuer: issuer, Audiences: []string{"app"}, KeysURL: issuer + "/keys"})
		return err
	}, byOperator(core.EventTokenIssuerSet, "issuer", issuer))
	s.tells("deleting a token issuer", func() error { return e.DeleteTokenIssuer(ctx, issuer) }, byOperator(core.EventTokenIssuerDeleted, "issuer", issuer))

	s.tells("declaring a policy", func() error {
		_, err := e.SetPolicy(ctx, core.Policy{Name: "readers", Document: []byte(`{"credential:*": "x"}`)})
		s.wantErr("a policy that means nothing", err, core.ErrInvalid)
		_, err = e.SetPolicy(ctx, core.Policy{Name: "readers", Document: []byte(`{"integration:*": ["credential:read"]}`)})
		return err
	}, byOperator(core.EventPolicySet, "policy", "readers"))
	s.tells("deleting a policy", func() error { return e.DeletePolicy(ctx, "readers") }, byOperator(core.EventPolicyDeleted, "policy", "readers"))

	pat := e.User("umbrella").As("pat")
	updated := core.Event{
		Kind: core.EventUserUpdated, Actor: core.Actor{Type: core.ActorUser, Person: "pat"}, User: "umbrella", Cause: "request", Result: "ok",
		Details: map[string]string{"meta": "Email,Name"},
	}
	s.tells("storing metadata", func() error {
		_, err := pat.UpdateMeta(ctx, map[string]any{"Name": "canary-name", "Email": "canary-mail"})
		return err
	}, updated)
	s.tells("changing nothing of it", func() error {
		_, err := pat.UpdateMeta(ctx, nil)
		return err
	})
}
