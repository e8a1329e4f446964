package core

import (
	"slices"
	"testing"
	"time"

	"github.com/polycred/polycred/core/internal/oauth"
	"github.com/polycred/polycred/crypto"
)

// What is taken of an answer depends on what stands there by then.
func TestTake(t *testing.T) {
	t.Parallel()
	const before, came, later = 1_000, 2_000, 3_000 // milliseconds
	spent := tokenRecord{Status: StatusValid, AccessToken: crypto.NewSecret("at-spent"), RefreshToken: crypto.NewSecret("rt-spent"), Refreshed: before}
	for _, tt := range []struct {
		name   string
		status Status
		// what stands there
		access, refresh string
		refreshed       millis
		rotated         string // the answer's refresh token

		taken                   bool
		wantAccess, wantRefresh string
		wantStatus              Status
	}{
		{"nothing changed", StatusValid, "at-spent", "rt-spent", before, "rt-new", true, "at-new", "rt-new", StatusValid},
		{"nothing changed, no rotation", StatusValid, "at-spent", "rt-spent", before, "", true, "at-new", "rt-spent", StatusValid},
		{"another process failed", StatusInvalid, "at-spent", "rt-spent", before, "rt-new", true, "at-new", "rt-new", StatusValid},
		{"pending", StatusPending, "at-spent", "rt-spent", before, "rt-new", true, "at-new", "rt-new", StatusPending},
		{"reconnected", StatusValid, "at-other", "rt-other", later, "rt-new", false, "at-other", "rt-other", StatusValid},
		{"reconnected without refresh token", StatusValid, "at-other", "rt-spent", later, "rt-new", true, "at-other", "rt-new", StatusValid},
		{"the same, in the same moment", StatusValid, "at-other", "rt-spent", before, "rt-new", true, "at-other", "rt-new", StatusValid},
		{"the same access token for longer", StatusValid, "at-spent", "rt-spent", later, "rt-new", true, "at-spent", "rt-new", StatusValid},
		{"reconnected without refresh token, no rotation", StatusValid, "at-other", "rt-spent", later, "", false, "at-other", "rt-spent", StatusValid},
		{"the same refresh token again", StatusValid, "at-other", "rt-spent", later, "rt-spent", false, "at-other", "rt-spent", StatusValid},
		{"reconnected, and failed with the spent one", StatusInvalid, "at-other", "rt-spent", later, "rt-new", true, "at-new", "rt-new", StatusValid},
		{"reconnected, and ended", StatusInvalid, "at-other", "rt-spent", later, "", false, "at-other", "rt-spent", StatusInvalid},
		{"no refresh token any more", StatusValid, "at-other", "", later, "rt-new", false, "at-other", "", StatusValid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			k := unsaved{spent: spent, at: time.UnixMilli(came), answer: &oauth.Answer{
				AccessToken: crypto.NewSecret("at-new"), RefreshToken: crypto.NewSecret(tt.rotated), Scopes: []string{"old"},
			}}
			record := credentialRecord{Scopes: []string{"new"}, Updated: tt.refreshed, tokenRecord: tokenRecord{
				Status: tt.status, AccessToken: crypto.NewSecret(tt.access), RefreshToken: crypto.NewSecret(tt.refresh), Refreshed: tt.refreshed,
			}}
			if taken := record.take(&k, 7); taken != tt.taken {
				t.Errorf("take() = %t, want %t", taken, tt.taken)
			}
			access, refresh := record.AccessToken.Reveal(), record.RefreshToken.Reveal()
			if access != tt.wantAccess || refresh != tt.wantRefresh || record.Status != tt.wantStatus {
				t.Errorf("tokens = %s, %s, %s, want %s, %s, %s", access, refresh, record.Status, tt.wantAccess, tt.wantRefresh, tt.wantStatus)
			}
			if renewed := access == "at-new"; slices.Equal(record.Scopes, []string{"old"}) != renewed {
				t.Errorf("scopes = %q, want those of the answer only with its access token", record.Scopes)
			}
			if rotated := refresh == "rt-new"; rotated != record.PreviousRefreshToken.Equal(spent.RefreshToken) {
				t.Errorf("previous refresh token = %s, want the spent one where it was replaced", record.PreviousRefreshToken.Reveal())
			}
		})
	}
}
