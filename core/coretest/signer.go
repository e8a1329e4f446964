package coretest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"fmt"

	"github.com/golang-jwt/jwt/v5"
)

// signer signs ID tokens with ES256, under a key that lives as long as the server.
type signer struct {
	key *ecdsa.PrivateKey
	id  string
	set map[string]any // the JWKS
}

func newSigner() (*signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate signing key: %w", err)
	}
	point, err := key.PublicKey.Bytes() // uncompressed: 4, X, Y
	if err != nil {
		return nil, fmt.Errorf("encode signing key: %w", err)
	}
	s := &signer{key: key, id: rand.Text()}
	s.set = map[string]any{"keys": []map[string]any{{
		"kty": "EC",
		"crv": "P-256",
		"alg": s.alg(),
		"use": "sig",
		"kid": s.id,
		"x":   base64.RawURLEncoding.EncodeToString(point[1:33]),
		"y":   base64.RawURLEncoding.EncodeToString(point[33:]),
	}}}
	return s, nil
}

func (s *signer) alg() string { return jwt.SigningMethodES256.Alg() }

// jwks is the public key as a JSON Web Key Set. The caller does not change it.
func (s *signer) jwks() map[string]any { return s.set }

func (s *signer) sign(claims map[string]any) (string, error) {
	t := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims(claims))
	t.Header["kid"] = s.id
	return t.SignedString(s.key)
}
