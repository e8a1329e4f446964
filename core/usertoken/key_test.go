package usertoken_test

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"

	"github.com/polycred/polycred/core/usertoken"
)

// encode returns der as PEM; an error of what made it fails the test.
func encode(tb testing.TB, kind string) func(der []byte, err error) string {
	return func(der []byte, err error) string {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
}

func TestParsePublicKey(t *testing.T) {
	t.Parallel()
	pkix := encode(t, "PUBLIC KEY")
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	exchange, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	small, err := smallRSA()
	if err != nil {
		t.Fatal(err)
	}
	rsaPEM := pkix(x509.MarshalPKIXPublicKey(rsaKey().Public()))
	tests := []struct {
		name, text string
		want       crypto.PublicKey // nil: an error
		reason     string
	}{
		{"RSA", rsaPEM, rsaKey().Public(), ""},
		{"RSA PKCS #1", encode(t, "RSA PUBLIC KEY")(x509.MarshalPKCS1PublicKey(&rsaKey().PublicKey), nil), rsaKey().Public(), ""},
		{"EC", pkix(x509.MarshalPKIXPublicKey(ecKey().Public())), ecKey().Public(), ""},
		{"Ed25519", pkix(x509.MarshalPKIXPublicKey(edKey().Public())), edKey().Public(), ""},
		{"from an environment variable", strings.ReplaceAll(rsaPEM, "\n", `\n`), rsaKey().Public(), ""},
		{"blanks around it", "\n  " + rsaPEM + "\n\n", rsaKey().Public(), ""},
		{"RSA of 1024 bits", pkix(x509.MarshalPKIXPublicKey(small.Public())), nil, "1024 bits"},
		{"RSA of 9000 bits", pkix(x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 8999, 1), E: 65537})), nil, "9000 bits"},
		{"RSA with an even exponent", pkix(x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: rsaKey().N, E: 4})), nil, "none"},
		{"P-384", pkix(x509.MarshalPKIXPublicKey(p384.Public())), nil, "P-256"},
		{"X25519", pkix(x509.MarshalPKIXPublicKey(exchange.Public())), nil, "use RSA"},
		{"private", encode(t, "PRIVATE KEY")(x509.MarshalPKCS8PrivateKey(edKey())), nil, "public half"},
		{"private PKCS #1", encode(t, "RSA PRIVATE KEY")(x509.MarshalPKCS1PrivateKey(rsaKey()), nil), nil, "public half"},
		{"certificate", encode(t, "CERTIFICATE")([]byte("x"), nil), nil, "certificate"},
		{"another type", encode(t, "MESSAGE")([]byte("x"), nil), nil, "another PEM type"},
		{"broken", pkix([]byte("x"), nil), nil, "cannot be read"},
		{"two keys", rsaPEM + rsaPEM, nil, "one key"},
		{"text before it", "my key\n" + rsaPEM, nil, "not PEM"},
		{"empty", "", nil, "not PEM"},
		{"no PEM", "ssh-ed25519 AAAA", nil, "not PEM"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := usertoken.ParsePublicKey(test.text)
			if test.want == nil {
				if err == nil || !strings.Contains(err.Error(), test.reason) {
					t.Fatalf("ParsePublicKey = %v, want an error with %q", err, test.reason)
				}
				return
			}
			if err != nil || !test.want.(interface{ Equal(crypto.PublicKey) bool }).Equal(got) {
				t.Fatalf("ParsePublicKey = %v, %v, want %v", got, err, test.want)
			}
		})
	}
}

func TestParsePrivateKey(t *testing.T) {
	t.Parallel()
	pkcs8 := encode(t, "PRIVATE KEY")
	exchange, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	small, err := smallRSA()
	if err != nil {
		t.Fatal(err)
	}
	encrypted := "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"
	tests := []struct {
		name, text string
		want       crypto.Signer // nil: an error
		reason     string
	}{
		{"RSA", pkcs8(x509.MarshalPKCS8PrivateKey(rsaKey())), rsaKey(), ""},
		{"RSA PKCS #1", encode(t, "RSA PRIVATE KEY")(x509.MarshalPKCS1PrivateKey(rsaKey()), nil), rsaKey(), ""},
		{"EC", pkcs8(x509.MarshalPKCS8PrivateKey(ecKey())), ecKey(), ""},
		{"EC SEC 1", encode(t, "EC PRIVATE KEY")(x509.MarshalECPrivateKey(ecKey())), ecKey(), ""},
		{"Ed25519 from an environment variable", strings.ReplaceAll(pkcs8(x509.MarshalPKCS8PrivateKey(edKey())), "\n", `\n`), edKey(), ""},
		{"RSA of 1024 bits", pkcs8(x509.MarshalPKCS8PrivateKey(small)), nil, "1024 bits"},
		{"X25519", pkcs8(x509.MarshalPKCS8PrivateKey(exchange)), nil, "not one to sign with"},
		{"public", encode(t, "PUBLIC KEY")(x509.MarshalPKIXPublicKey(edKey().Public())), nil, "private half"},
		{"encrypted", encrypted, nil, "encrypted"},
		{"encrypted PKCS #8", encode(t, "ENCRYPTED PRIVATE KEY")([]byte("x"), nil), nil, "another PEM type"},
		{"broken", pkcs8([]byte("x"), nil), nil, "cannot be read"},
		{"no PEM", "secret", nil, "not PEM"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := usertoken.ParsePrivateKey(test.text)
			if test.want == nil {
				if err == nil || !strings.Contains(err.Error(), test.reason) || strings.Contains(err.Error(), "secret") {
					t.Fatalf("ParsePrivateKey = %v, want an error with %q", err, test.reason)
				}
				return
			}
			if err != nil || !test.want.(interface{ Equal(crypto.PrivateKey) bool }).Equal(got) {
				t.Fatalf("ParsePrivateKey = %T, %v, want %T", got, err, test.want)
			}
		})
	}
}

func TestKeyID(t *testing.T) {
	t.Parallel()
	// RFC 8032 §7.1, test 1; the id is `openssl pkey -pubin -outform DER | sha256sum` of it.
	public := ed25519.PublicKey("\xd7\x5a\x98\x01\x82\xb1\x0a\xb7\xd5\x4b\xfe\xd3\xc9\x64\x07\x3a\x0e\xe1\x72\xf3\xda\xa6\x23\x25\xaf\x02\x1a\x68\xf7\x07\x51\x1a")
	const want = "06e3fd8fda29bb60ab59557de61edb0aecdb231134be30e75b455f8e1b792fa9"
	if got, err := usertoken.KeyID(public); got != want || err != nil {
		t.Errorf("KeyID = %q, %v, want %q", got, err, want)
	}
	for _, key := range []crypto.PublicKey{
		nil, "key", (*rsa.PublicKey)(nil), &rsa.PublicKey{}, (*ecdsa.PublicKey)(nil), &ecdsa.PublicKey{},
		&ecdsa.PublicKey{Curve: elliptic.P256()}, ed25519.PublicKey{}, edKey(),
	} {
		if id, err := usertoken.KeyID(key); err == nil {
			t.Errorf("KeyID(%T) = %q, want an error", key, id)
		}
	}
}
