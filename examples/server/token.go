package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/polycred/polycred/core/usertoken"
)

// demoProject is the project of a demo whose configuration names none: so that -mint knows it without opening the store,
// which the server has open.
const demoProject = "00000000-0000-4000-8000-00000000d3e0"

// demoKey is a key that signs user tokens. A real application keeps its key where it signs in its users, and gives this
// program the public half.
type demoKey struct{ private ed25519.PrivateKey }

// newDemoKey opens the key in a file, and makes it when there is none; without a file it lives in memory.
func newDemoKey(file string) (demoKey, error) {
	if file != "" {
		key, err := openDemoKey(file)
		if !errors.Is(err, fs.ErrNotExist) {
			return key, err
		}
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil || file == "" {
		return demoKey{private}, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return demoKey{}, err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return demoKey{}, fmt.Errorf("make the demo key: %w", err)
	}
	err = errors.Join(pem.Encode(f, &pem.Block{Type: "PRIVATE KEY", Bytes: der}), f.Close())
	return demoKey{private}, err
}

func openDemoKey(file string) (demoKey, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return demoKey{}, fmt.Errorf("read the demo key: %w", err)
	}
	signer, err := usertoken.ParsePrivateKey(string(text))
	if err != nil {
		return demoKey{}, fmt.Errorf("the demo key in %s: %w", file, err)
	}
	private, ok := signer.(ed25519.PrivateKey)
	if !ok {
		return demoKey{}, fmt.Errorf("the demo key in %s is of another kind: remove the file, and a new one is made", file)
	}
	return demoKey{private}, nil
}

// public is the half that the server gets, in PEM.
func (k demoKey) public() (string, error) {
	der, err := x509.MarshalPKIXPublicKey(k.private.Public())
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), nil
}

// token signs a user token, as an application's server does for who is signed in there.
func (k demoKey) token(project, user string) (string, error) {
	return usertoken.Mint(k.private, usertoken.MintInput{Project: project, User: user, Lifetime: 12 * time.Hour})
}

// mint prints a token.
func mint(out io.Writer, f *flags, cfg *config) error {
	key, err := openDemoKey(f.demoKey)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no demo key in %s yet: start the server with -demo first", f.demoKey)
	} else if err != nil {
		return err
	}
	token, err := key.token(cfg.projectOr(demoProject), f.mint)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, token)
	return err
}
