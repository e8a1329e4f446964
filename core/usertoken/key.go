package usertoken

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// The size of RSA keys: below it they are too weak (RFC 8725 §3.5), above it a signature takes too long to check.
const (
	minRSABits = 2048
	maxRSABits = 8192
)

// Key is a live signing key of the project: the public half of what the application signs user tokens with. A key that
// is revoked is left out of Options.Keys.
type Key struct {
	// ID is what a token's kid may name the key by, and what Claims.Key says; 255 bytes at most. Empty means
	// KeyID(Public), which Mint puts into its tokens.
	ID string
	// Public is an *rsa.PublicKey of 2048 to 8192 bits, an *ecdsa.PublicKey on P-256 or an ed25519.PublicKey, like
	// ParsePublicKey returns it. It must not be changed afterwards.
	Public crypto.PublicKey
}

// algorithm returns the signing method of a public key, or an error for a key of another kind or size than Key.Public
// tells. A key has just one: whoever could choose between two could have it used as something that it is not.
func algorithm(public crypto.PublicKey) (jwt.SigningMethod, error) {
	switch key := public.(type) {
	case *rsa.PublicKey:
		switch {
		case key == nil || key.N == nil:
			return nil, errors.New("is an RSA key without a modulus")
		case key.N.BitLen() < minRSABits || key.N.BitLen() > maxRSABits:
			return nil, fmt.Errorf("is an RSA key of %d bits: use %d to %d", key.N.BitLen(), minRSABits, maxRSABits)
		case key.E < 3 || key.E%2 == 0 || key.N.Bit(0) == 0:
			return nil, errors.New("is an RSA key that is none: make another")
		}
		return jwt.SigningMethodRS256, nil
	case *ecdsa.PublicKey:
		if key == nil || key.Curve != elliptic.P256() {
			return nil, errors.New("is an EC key on another curve: use P-256")
		}
		if key.X == nil || key.Y == nil { //nolint:staticcheck // there is no other way to tell a key without a point, on which ECDH panics
			return nil, errors.New("is an EC key without a point")
		}
		if _, err := key.ECDH(); err != nil {
			return nil, errors.New("is an EC key whose point is not on P-256")
		}
		return jwt.SigningMethodES256, nil
	case ed25519.PublicKey:
		if len(key) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("is an Ed25519 key of %d bytes, want %d", len(key), ed25519.PublicKeySize)
		}
		return jwt.SigningMethodEdDSA, nil
	case nil:
		return nil, errors.New("is empty: pass a public key")
	}
	return nil, fmt.Errorf("is a %T: use RSA, EC on P-256 or Ed25519", public)
}

// KeyID names a public key by what it is: the SHA-256 of its SubjectPublicKeyInfo (RFC 5280 §4.1.2.7) in hexadecimal, 64
// characters. It is an error when the key is not one that Key.Public may be.
func KeyID(public crypto.PublicKey) (string, error) {
	if _, err := algorithm(public); err != nil {
		return "", fmt.Errorf("the key %w", err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", fmt.Errorf("encode the public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

// ParsePublicKey reads one public key in PEM (RFC 7468): "PUBLIC KEY" or, for RSA, "RSA PUBLIC KEY". Lines may be parted
// by a backslash and an n, as environment variables have them. It is an error when there is anything beside it, when the
// key is not one that Key.Public may be, or when it is a private key, which has no business here. Errors hold nothing of
// the text.
func ParsePublicKey(text string) (crypto.PublicKey, error) {
	block, err := onlyBlock(text)
	if err != nil {
		return nil, fmt.Errorf("the public key %w", err)
	}
	var public crypto.PublicKey
	switch block.Type {
	case "PUBLIC KEY":
		public, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		public, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY":
		return nil, errors.New("the key is a private key: pass its public half, and keep the private one where tokens are signed")
	case "CERTIFICATE":
		return nil, errors.New("the key is a certificate, whose dates nobody would look at: pass the public key in it")
	default:
		return nil, errors.New(`the public key has another PEM type than "PUBLIC KEY" and "RSA PUBLIC KEY"`)
	}
	if err != nil {
		return nil, fmt.Errorf("the public key cannot be read: its PEM does not hold a %s", strings.ToLower(block.Type))
	}
	if _, err := algorithm(public); err != nil {
		return nil, fmt.Errorf("the public key %w", err)
	}
	return public, nil
}

// ParsePrivateKey reads one private key in PEM, for Mint: "PRIVATE KEY" (PKCS #8), "RSA PRIVATE KEY" (PKCS #1) or "EC
// PRIVATE KEY" (SEC 1), none of them encrypted. Lines may be parted as for ParsePublicKey, and the same kinds and sizes
// are taken. Errors hold nothing of the text.
func ParsePrivateKey(text string) (crypto.Signer, error) {
	block, err := onlyBlock(text)
	if err != nil {
		return nil, fmt.Errorf("the private key %w", err)
	}
	var private any
	switch block.Type {
	case "PRIVATE KEY":
		private, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		private, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		private, err = x509.ParseECPrivateKey(block.Bytes)
	case "PUBLIC KEY", "RSA PUBLIC KEY":
		return nil, errors.New("the key is a public key: tokens are signed with its private half")
	default:
		return nil, errors.New(`the private key has another PEM type than "PRIVATE KEY", "RSA PRIVATE KEY" and "EC PRIVATE KEY"`)
	}
	if err != nil || block.Headers["DEK-Info"] != "" {
		return nil, fmt.Errorf("the private key cannot be read: its PEM does not hold a %s, or it is encrypted", strings.ToLower(block.Type))
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return nil, errors.New("the private key is not one to sign with: use RSA, EC on P-256 or Ed25519")
	}
	if _, err := algorithm(signer.Public()); err != nil {
		return nil, fmt.Errorf("the private key %w", err)
	}
	return signer, nil
}

// onlyBlock returns the one PEM block of a text.
func onlyBlock(text string) (*pem.Block, error) {
	text = strings.TrimSpace(text)
	if !strings.Contains(text, "\n") {
		text = strings.ReplaceAll(text, `\n`, "\n")
	}
	block, rest := pem.Decode([]byte(text))
	switch {
	case block == nil || !strings.HasPrefix(text, "-----BEGIN"):
		return nil, errors.New(`is not PEM: it begins with "-----BEGIN"`)
	case strings.TrimSpace(string(rest)) != "":
		return nil, errors.New("is followed by something else: pass one key")
	}
	return block, nil
}
