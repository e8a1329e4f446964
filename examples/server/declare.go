package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/input"
	"github.com/polycred/polycred/core/usertoken"
	"github.com/polycred/polycred/crypto"
)

// declare makes the store say what the configuration says. What is as it should be is not touched, so that restarting changes
// no revision and leaves no event.
func declare(ctx context.Context, engine *core.Engine, cfg *config, secrets *secretFile) error {
	for i, wanted := range cfg.Integrations {
		if err := declareIntegration(ctx, engine, wanted, secrets); err != nil {
			return fmt.Errorf("integrations.%d (%s): %w", i, wanted.Name, err)
		}
	}
	if err := secrets.save(ctx); err != nil {
		return err
	}
	return declareKeys(ctx, engine, cfg.SigningKeys)
}

func declareIntegration(ctx context.Context, engine *core.Engine, wanted core.Integration, secrets *secretFile) error {
	var secret crypto.Secret
	if wanted.OAuth2 != nil {
		secret = wanted.OAuth2.ClientSecret
	}
	stored, err := engine.Integration(ctx, wanted.Name)
	if errors.Is(err, core.ErrNotFound) {
		if _, err = engine.CreateIntegration(ctx, wanted); err == nil {
			secrets.note(wanted.Name, secret)
			slog.Info("an integration was declared", "integration", wanted.Name)
		}
		return err
	} else if err != nil {
		return err
	}
	same, err := equal(wanted, stored)
	if err != nil {
		return err
	}
	fresh := !secret.IsZero() && !secrets.has(wanted.Name, secret)
	switch {
	case !same:
		wanted.Revision = stored.Revision // of what was just read: whoever is faster wins
		_, err = engine.UpdateIntegration(ctx, wanted)
	case fresh:
		err = engine.SetClientSecret(ctx, wanted.Name, secret)
	default:
		return nil
	}
	if err == nil {
		secrets.note(wanted.Name, secret)
		slog.Info("an integration was changed", "integration", wanted.Name)
	}
	return err
}

// equal reports whether an integration is stored as it is wanted. Secrets are not compared: they cannot be read.
func equal(wanted, stored core.Integration) (bool, error) {
	form := func(in core.Integration) ([]byte, error) {
		var zero core.Integration
		in.Created, in.Updated, in.Revision = zero.Created, zero.Updated, 0
		if in.OAuth2 != nil {
			without := *in.OAuth2
			without.ClientSecret = crypto.Secret{}
			in.OAuth2 = &without
		}
		var err error
		if in.Settings, err = input.Check("settings", in.Settings); err != nil { // in their normal form
			return nil, err
		}
		if in.Setup, err = input.Check("setup", in.Setup); err != nil {
			return nil, err
		}
		return json.Marshal(in)
	}
	a, err := form(wanted)
	if err != nil {
		return false, err
	}
	b, err := form(stored)
	return bytes.Equal(a, b), err
}

// declareKeys adds the keys that are missing and revokes those that are not listed: who takes a key out of the file means
// that tokens signed with it are not to be believed any more.
func declareKeys(ctx context.Context, engine *core.Engine, wanted []string) error {
	listed := map[string]bool{}
	for i, text := range wanted {
		public, err := usertoken.ParsePublicKey(text)
		if err != nil {
			return fmt.Errorf("signingKeys.%d: %w", i, err)
		}
		id, err := usertoken.KeyID(public)
		if err != nil {
			return fmt.Errorf("signingKeys.%d: %w", i, err)
		}
		listed[id] = true
	}
	live, err := engine.SigningKeys(ctx)
	if err != nil {
		return err
	}
	for _, key := range live {
		if listed[key.ID] {
			continue
		}
		if err := engine.RevokeSigningKey(ctx, key.ID); err != nil && !errors.Is(err, core.ErrNotFound) {
			return err
		}
		slog.Info("a signing key was revoked, because the configuration does not list it", "key", key.ID)
	}
	for i, text := range wanted {
		if _, err := engine.AddSigningKey(ctx, core.SigningKeyInput{PublicKey: text}); err != nil {
			return fmt.Errorf("signingKeys.%d: %w", i, err)
		}
	}
	return nil
}

// secretFile remembers which client secrets were declared, since the store does not give them back: a file beside the store,
// encrypted under the store's key-encryption key. Where there is none, each secret counts as new.
type secretFile struct {
	path    string // empty: only in memory
	kek     *crypto.LocalKEK
	secrets map[string]string // by integration
	changed bool
}

const secretFileIs = "polycred examples/server declared secrets"

func openSecrets(ctx context.Context, path string, kek *crypto.LocalKEK) *secretFile {
	s := &secretFile{path: path, kek: kek, secrets: map[string]string{}}
	if sealed, err := os.ReadFile(path); path != "" && err == nil {
		if text, err := kek.DecryptWithContext(ctx, sealed, []byte(secretFileIs)); err == nil {
			_ = json.Unmarshal(text, &s.secrets) // or they count as new
		}
	}
	return s
}

func (s *secretFile) has(integration string, secret crypto.Secret) bool {
	declared, ok := s.secrets[integration]
	return ok && secret.Equal(crypto.NewSecret(declared))
}

func (s *secretFile) note(integration string, secret crypto.Secret) {
	if !secret.IsZero() {
		s.secrets[integration], s.changed = secret.Reveal(), true
	}
}

func (s *secretFile) save(ctx context.Context) error {
	if s.path == "" || !s.changed {
		return nil
	}
	text, err := json.Marshal(s.secrets)
	if err != nil {
		return err
	}
	sealed, err := s.kek.EncryptWithContext(ctx, text, []byte(secretFileIs))
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.path+".new", sealed, 0o600); err != nil {
		return err
	}
	return os.Rename(s.path+".new", s.path)
}
