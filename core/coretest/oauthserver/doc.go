// Oauthserver runs the OAuth server of package coretest as a program, so that a test in any language can connect
// accounts, let tokens expire and make the provider fail. It listens on 127.0.0.1 only, keeps everything in memory, and
// serves plain HTTP. Its flags are listed by -h.
//
// When it is ready it prints one line of JSON on standard output and nothing more; its log goes to standard error:
//
//	{"url":"http://127.0.0.1:9090","issuer":…,"authorizationUrl":…,"tokenUrl":…,"userInfoUrl":…,"revocationUrl":…,
//	 "jwksUrl":…,"apiUrl":…,"clientId":"demo-client","clientSecret":"demo-secret","controlUrl":…}
//
// It ends, with status 0, on SIGINT and SIGTERM. With -stdin it also ends when its standard input is closed: a parent
// that holds the other end of the pipe leaves no orphan, however it dies. A parent that goes through "go run" needs
// that, since go run hands on no signal; building the program first is the better way:
//
//	go build -o oauthserver github.com/polycred/polycred/core/coretest/oauthserver
//
// # An example
//
// Start it with an account that consents at once, and follow the redirect by hand; the code stands in it. The verifier
// and its challenge are those of RFC 7636, appendix B:
//
//	./oauthserver -port 9090 -account ada &
//
//	curl -s -o /dev/null -w '%{redirect_url}\n' -G http://127.0.0.1:9090/authorize \
//	  -d response_type=code -d client_id=demo-client -d state=s-1 -d redirect_uri=http://127.0.0.1:8080/callback \
//	  -d code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM -d code_challenge_method=S256
//
//	curl -s -u demo-client:demo-secret http://127.0.0.1:9090/token \
//	  -d grant_type=authorization_code -d code="$CODE" -d redirect_uri=http://127.0.0.1:8080/callback \
//	  -d code_verifier=dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk
//
// From now on the provider rotates refresh tokens, and its next answer to a refresh is lost. The access token expires,
// and the refresh below fails although the provider has spent the refresh token:
//
//	curl -s -X PATCH http://127.0.0.1:9090/_control/switches \
//	  -d '{"rotate": true, "refresh": {"lostReply": true, "times": 1}}'
//
//	curl -s -X POST http://127.0.0.1:9090/_control/clock -d '{"advance": "1h"}'
//
//	curl -s -u demo-client:demo-secret http://127.0.0.1:9090/token \
//	  -d grant_type=refresh_token -d refresh_token="$REFRESH_TOKEN"
//
// # Control
//
// Below controlUrl lies what a test steers the server with. Bodies are JSON objects, whatever their content type;
// unknown names are refused. An answer is JSON, or empty with status 204; a refusal is
// {"error": code, "message": text} with a status from 400 to 499.
//
//	GET   switches   all switches; the documentation of coretest.Switches says what each does
//	PATCH switches   changes those that are named and answers with all. Objects are merged, and null empties one,
//	                 so {"refresh": null} ends every fault of refreshes. A fault that has struck as often as its
//	                 "times" said has -1 there: name "times" again to repeat it
//	GET   calls      how many requests have arrived at each endpoint, and how many are kept waiting
//	GET   last       the last request at each endpoint: {"refresh": {"method", "url", "header", "form"}, …}
//	POST  accounts   {"subject", "login", "tenant", "name", "email"}: adds an account, or replaces that of the same
//	                 login, which is the subject unless given. The first one is signed in
//	POST  keys       {"key", "login"}: an API key of an account
//	POST  sign-in    {"login"}: who consents from now on; "" is nobody, an unknown login becomes an account
//	POST  revoke     {"login"}: ends everything that the account has granted, and its API keys
//	GET   clock      {"now": time}
//	POST  clock      {"advance": "1h30m"}: moves the clock by which tokens expire
//	POST  reset      back to what the flags say, the clock included; requests that are kept
//	                 waiting are cut
//
// Only programs may steer: a request that a web page makes (it has an Origin), or that names another host than that of
// controlUrl, is refused with status 403.
//
// The clock runs with that of the machine, ahead of it by what it has been advanced. With -clock it stands where the
// flag puts it, and moves only when it is advanced.
package main

import (
	_ "embed"
	"strings"
)

//go:embed doc.go
var source string

// help is the package comment: what -h prints before the flags.
func help() string {
	comment, _, _ := strings.Cut(source, "\npackage main\n")
	var b strings.Builder
	for line := range strings.Lines(comment + "\n") {
		line = strings.TrimPrefix(strings.TrimPrefix(line, "//"), " ")
		b.WriteString(strings.TrimPrefix(line, "# "))
	}
	return b.String()
}
