package usertoken_test

import (
	"context"
	"crypto"
	"testing"

	"github.com/polycred/polycred/core/usertoken"
)

// BenchmarkVerify is one token, remembered and verified anew.
func BenchmarkVerify(b *testing.B) {
	for _, bench := range []struct {
		name     string
		key      crypto.Signer
		remember int
	}{
		{"cached", rsaKey(), 0},
		{"RS256", rsaKey(), -1},
		{"ES256", ecKey(), -1},
		{"EdDSA", edKey(), -1},
	} {
		b.Run(bench.name, func(b *testing.B) {
			v := newVerifier(b, usertoken.Options{Keys: live(rsaKey(), ecKey(), edKey()), Now: newClock().Now, Remember: bench.remember})
			token, err := usertoken.Mint(bench.key, usertoken.MintInput{
				Project: project, User: "org", Person: "ada", Permissions: map[string]any{"integration:*": true}, Now: start,
			})
			if err != nil {
				b.Fatal(err)
			}
			ctx := context.Background()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(ctx, token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
