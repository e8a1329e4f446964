package httpapi_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/httpapi"
	"github.com/polycred/polycred/core/usertoken"
)

// TestStatuses: each code that core has is given a status here, and no other.
func TestStatuses(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("../message.go")
	if err != nil {
		t.Fatal(err)
	}
	statuses := httpapi.Statuses()
	found := regexp.MustCompile(`\{[\w.]+, "(\w+)", "`).FindAllSubmatch(source, -1)
	if len(found) < 30 {
		t.Fatalf("%d codes in message.go: the test is blind", len(found))
	}
	for _, m := range found {
		code := string(m[1])
		if statuses[code] == 0 {
			t.Errorf("the code %q of core has no status", code)
		}
		delete(statuses, code)
	}
	for code := range statuses {
		t.Errorf("core has no code %q", code)
	}
}

// TestFailures: what errors become on the wire.
func TestFailures(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err    error
		status int
		code   string
	}{
		{usertoken.ErrToken, 401, "token"},
		{usertoken.ErrExpired, 401, "token"},
		{usertoken.ErrUnavailable, 503, "token_issuer"},
		{fmt.Errorf("x: %w", core.ErrPermission), 403, "7210"},
		{core.ErrKeyRejected, 422, "7003"},
		{&core.ProviderError{Op: "identity", Class: core.FailureTransient}, 502, "0704"},
		{&core.ProviderError{Op: "exchange", Class: core.FailurePermanent}, 502, "provider"},
		{&core.ProviderError{Op: "request", Class: core.FailureRateLimited, RetryAfter: time.Minute}, 429, "provider"},
		{&core.AmbiguousError{}, 409, "ambiguous"},
		{&core.InputError{Field: "a", Reason: "is wrong"}, 400, "invalid"},
		{core.ErrNotFound, 404, "not_found"},
		{core.ErrNotConnected, 404, "not_connected"},
		{core.ErrTooMany, 409, "too_many"},
		{core.ErrDisabled, 409, "disabled"},
		{context.Canceled, 499, "canceled"},
		{context.DeadlineExceeded, 504, "timeout"},
		{&http.MaxBytesError{Limit: 1}, 413, "too_large"},
		{errors.New("anything"), 500, "internal"},
		{&httpapi.Error{Status: 418, Code: "tea", Message: "No."}, 418, "tea"},
	} {
		if status, code := httpapi.FailureOf(test.err); status != test.status || code != test.code {
			t.Errorf("%v = %d %s, want %d %s", test.err, status, code, test.status, test.code)
		}
	}
}
