package oauth_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polycred/polycred/core/internal/oauth"
	"github.com/polycred/polycred/crypto"
)

// Whatever a provider answers: no panic, either an answer that can be used or an error that repeats nothing of it.
func FuzzAnswer(f *testing.F) {
	for _, body := range []string{
		"", "null", "[]", `"x"`, "{}", "{", `{"access_token":"at-canary","refresh_token":"rt","expires_in":3600,"scope":"a b"}`, `{"access_token":"a\u0000b"}`,
		`{"access_token":"at","expires_in":1e999}`, `{"access_token":"at","expires_in":"-1"}`, `{"access_token":"at","scope":["a",1,{}]}`, `{"ok":false,"error":"canary"}`,
		`{"error":"invalid_grant"}`, `{"error":{"message":"canary"}}`, `{"a":{"b":{"c":1}}}`, "access_token=at&expires_in=60", "access_token=%zz", "access_token=%ff", "<html>canary</html>",
		"\xef\xbb\xbf{}", strings.Repeat("[", 20000), `{"access_token":"at"}{"access_token":"bt"}`,
	} {
		for _, contentType := range []string{"application/json", "application/x-www-form-urlencoded", "text/html; charset", ""} {
			f.Add(200, contentType, []byte(body))
			f.Add(400, contentType, []byte(body))
		}
	}
	reasons := []string{"the provider refused", "the provider's answer "}
	f.Fuzz(func(t *testing.T, status int, contentType string, body []byte) {
		answer, err := answering(status, contentType, string(body)).exchange(t)
		if err != nil {
			var failure *oauth.Error
			if !errors.As(err, &failure) || answer != nil {
				t.Fatalf("answer %v, error %v, want only an *Error", answer, err)
			}
			if !slices.ContainsFunc(reasons, func(reason string) bool { return strings.HasPrefix(failure.Reason, reason) }) || len(failure.Error()) > 200 {
				t.Errorf("error text %q, want our own words", failure)
			}
			if failure.Code != oauth.CleanCode(failure.Code) || failure.Class == "" || failure.RetryAfter != 0 {
				t.Errorf("error %+v, want a known code and a class", failure)
			}
			return
		}
		token := answer.AccessToken.Reveal()
		if token == "" || len(token) > 32<<10 || strings.ContainsFunc(token, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
			t.Errorf("access token of %d bytes was accepted: %.60q", len(token), token)
		}
		if answer.Lifetime < 0 || answer.Lifetime > 10*365*24*time.Hour {
			t.Errorf("lifetime = %v", answer.Lifetime)
		}
		if status < 200 || status > 299 {
			t.Errorf("an answer with status %d was accepted", status)
		}
		if len(answer.RefreshToken.Reveal()) > 32<<10 || len(strings.Join(answer.Scopes, " ")) > 32<<10 || slices.Contains(answer.Scopes, "") || strings.ContainsAny(answer.TokenType, " \r\n") {
			t.Errorf("answer = %+v, want it bounded and clean", answer)
		}
		for _, path := range []string{"", ".", "a.b.c", "access_token", contentType} {
			_ = oauth.Field(answer.Fields, path)
		}
	})
}

// The same of an endpoint with codes and a place of its own.
func FuzzAnswerFurtherIn(f *testing.F) {
	for _, body := range []string{
		`{"a":{"b":{"access_token":"at","expires_in":"60"}},"scopes":["x"]}`, `{"a":{"b":[]},"access_token":"at"}`, `{"ok":false,"s":{"c":"GONE"}}`, `{"s":"GONE","error":"GONE "}`,
		`{"s":{"c":{"c":"GONE"}}}`, `{"s":{"c":1}}`, "a=b&access_token=at", "{}", "null",
	} {
		f.Add(200, []byte(body))
		f.Add(400, []byte(body))
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		e := answering(status, "application/json", string(body))
		e.TokenPath, e.Codes = "a.b", oauth.Codes{Permanent: []string{"GONE"}, RateLimited: []string{"Access Denied"}, Path: "s.c", OKPath: "s.c"}
		for _, ask := range []func() (*oauth.Answer, error){
			func() (*oauth.Answer, error) { return e.exchange(t) },
			func() (*oauth.Answer, error) { return e.Refresh(t.Context(), crypto.NewSecret("rt")) },
		} {
			answer, err := ask()
			var failure *oauth.Error
			switch {
			case err == nil && answer.AccessToken.IsZero():
				t.Error("an answer without a token was accepted")
			case err != nil && (!errors.As(err, &failure) || answer != nil):
				t.Fatalf("answer %v, error %v, want only an *Error", answer, err)
			case err != nil && failure.Code != "" && failure.Code != "GONE" && failure.Code != "Access Denied" && failure.Code != oauth.CleanCode(failure.Code):
				t.Errorf("error %+v, want a code that is known or declared", failure)
			}
		}
	})
}
