package catalog_test

import (
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
)

const (
	permanent   = core.FailurePermanent
	transient   = core.FailureTransient
	rateLimited = core.FailureRateLimited
)

// dead is the error of RFC 6749 §5.2 for a refresh token that has ended.
func dead(status int, body string) failure {
	return failure{status: status, body: body, class: permanent, code: "invalid_grant", invalid: true}
}

// plays are the ten providers. The shapes are those of the providers' documentation, SDKs and issue trackers; what is
// known from elsewhere only says so.
var plays = []play{
	{
		name: "google", scopes: []string{"https://www.googleapis.com/auth/calendar"},
		change:    func(in *core.Integration, s *coretest.OAuthServer) { in.OAuth2.Issuer = s.Issuer() },
		exchange:  `{"access_token":"at-1","expires_in":3599,"refresh_token":"rt-1","scope":"openid https://www.googleapis.com/auth/userinfo.email https://www.googleapis.com/auth/calendar","token_type":"Bearer","id_token":"ID_TOKEN({"iss":"ORIGIN","aud":"CLIENT","sub":"110169484474386276334","nonce":"NONCE","exp":EXPIRY})"}`,
		userInfo:  `{"sub":"110169484474386276334","email":"ada@example.com","email_verified":true}`,
		account:   core.ProviderAccount{Issuer: "ORIGIN", Subject: "110169484474386276334", Display: "ada@example.com"},
		granted:   []string{"openid", "https://www.googleapis.com/auth/userinfo.email", "https://www.googleapis.com/auth/calendar"},
		lifetime:  3599 * time.Second,
		authorize: map[string]string{"access_type": "offline", "prompt": "consent", "scope": "openid email https://www.googleapis.com/auth/calendar"},
		refresh:   `{"access_token":"at-2","expires_in":3599,"scope":"openid https://www.googleapis.com/auth/userinfo.email https://www.googleapis.com/auth/calendar","token_type":"Bearer"}`,
		access:    "at-2", afterRefresh: 3599 * time.Second, spends: []string{"rt-1", "rt-1"},
		errors: []failure{
			dead(400, `{"error":"invalid_grant","error_description":"Token has been expired or revoked. canary"}`),
			dead(400, `{"error":"invalid_grant","error_description":"reauth related error (invalid_rapt)","error_subtype":"canary"}`),
			{status: 401, body: `{"error":"invalid_client","error_description":"Unauthorized canary"}`, class: transient, code: "invalid_client", setup: true},
			{status: 500, body: `{"error":"internal_failure","error_description":"canary"}`, class: transient, code: "internal_failure"},
			{status: 403, body: `{"error":"rate_limit_exceeded","error_description":"canary"}`, class: rateLimited, code: "rate_limit_exceeded"},
			{status: 400, body: `{"error":"canary","error_description":"canary"}`, class: transient},
			{exchange: true, status: 400, body: `{"error":"invalid_grant","error_description":"Malformed auth code. canary"}`, class: permanent, code: "invalid_grant"},
			{exchange: true, status: 400, body: `{"error":"redirect_uri_mismatch","error_description":"canary"}`, class: transient, code: "redirect_uri_mismatch"},
		},
	},
	{
		name: "microsoft", scopes: []string{"https://graph.microsoft.com/mail.read"},
		exchange:  `{"token_type":"Bearer","scope":"https://graph.microsoft.com/mail.read openid profile","expires_in":3599,"ext_expires_in":3599,"access_token":"at-1","refresh_token":"rt-1","id_token":"ID_TOKEN({"iss":"https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0","aud":"CLIENT","sub":"AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ","oid":"00000000-0000-0000-66f3-3332eca7ea81","tid":"72f988bf-86f1-41af-91ab-2d7cd011db47","preferred_username":"ada@contoso.example","nonce":"NONCE","exp":EXPIRY})"}`,
		account:   core.ProviderAccount{Issuer: "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0", Tenant: "72f988bf-86f1-41af-91ab-2d7cd011db47", Subject: "00000000-0000-0000-66f3-3332eca7ea81", Display: "ada@contoso.example"},
		granted:   []string{"https://graph.microsoft.com/mail.read", "openid", "profile"},
		lifetime:  3599 * time.Second,
		authorize: map[string]string{"scope": "openid profile offline_access https://graph.microsoft.com/mail.read", "prompt": ""},
		refresh:   `{"token_type":"Bearer","scope":"https://graph.microsoft.com/mail.read openid profile","expires_in":3599,"access_token":"at-2","refresh_token":"rt-2","id_token":"canary"}`,
		access:    "at-2", afterRefresh: 3599 * time.Second, spends: []string{"rt-1", "rt-2"},
		errors: []failure{
			dead(400, `{"error":"invalid_grant","error_description":"AADSTS70008: The refresh token has expired due to inactivity. canary","error_codes":[70008],"timestamp":"2016-01-09 02:02:12Z","trace_id":"canary","correlation_id":"canary","suberror":"bad_token"}`),
			{status: 400, body: `{"error":"interaction_required","error_description":"AADSTS50076: canary","error_codes":[50076],"suberror":"basic_action"}`, class: permanent, code: "interaction_required", invalid: true},
			{status: 400, body: `{"error":"consent_required","error_description":"AADSTS65001: canary","error_codes":[65001]}`, class: permanent, code: "consent_required", invalid: true},
			{status: 401, body: `{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret is provided. canary","error_codes":[7000215]}`, class: transient, code: "invalid_client", setup: true},
			{status: 503, body: `{"error":"temporarily_unavailable","error_description":"AADSTS90033: canary","error_codes":[90033]}`, class: transient, code: "temporarily_unavailable"},
			{exchange: true, status: 400, body: `{"error":"invalid_scope","error_description":"AADSTS70011: canary","error_codes":[70011]}`, class: transient, code: "invalid_scope", setup: true},
		},
	},
	{
		name: "github OAuth app", scopes: []string{"repo", "gist"},
		exchange:  `{"access_token":"at-1","scope":"repo,gist","token_type":"bearer"}`,
		userInfo:  `{"login":"ada","id":583231,"node_id":"MDQ6VXNlcjU4MzIzMQ==","type":"User"}`,
		account:   core.ProviderAccount{Issuer: "HOST", Subject: "583231", Display: "ada"},
		granted:   []string{"repo", "gist"},
		authorize: map[string]string{"scope": "repo gist"},
		errors: []failure{
			{exchange: true, body: `{"error":"bad_verification_code","error_description":"The code passed is incorrect or expired. canary","error_uri":"https://canary.example.com"}`, class: permanent, code: "bad_verification_code"},
			{exchange: true, body: `{"error":"incorrect_client_credentials","error_description":"canary"}`, class: transient, code: "incorrect_client_credentials", setup: true},
			{exchange: true, body: `{"error":"redirect_uri_mismatch","error_description":"canary"}`, class: transient, code: "redirect_uri_mismatch"},
		},
	},
	{
		name:     "github App",
		exchange: `{"access_token":"at-1","expires_in":"28800","refresh_token":"rt-1","refresh_token_expires_in":"15811200","scope":"","token_type":"bearer"}`,
		userInfo: `{"login":"ada","id":583231}`,
		account:  core.ProviderAccount{Issuer: "HOST", Subject: "583231", Display: "ada"},
		lifetime: 8 * time.Hour,
		refresh:  `{"access_token":"at-2","expires_in":28800,"refresh_token":"rt-2","refresh_token_expires_in":15811200,"scope":"","token_type":"bearer"}`,
		access:   "at-2", afterRefresh: 8 * time.Hour, spends: []string{"rt-1", "rt-2"},
		errors: []failure{
			{body: `{"error":"bad_refresh_token","error_description":"The refresh token passed is incorrect or expired. canary"}`, class: permanent, code: "bad_refresh_token", invalid: true},
			{status: 400, body: `{"error":"bad_refresh_token","error_description":"canary"}`, class: permanent, code: "bad_refresh_token", invalid: true},
			{body: `{"error":"incorrect_client_credentials","error_description":"canary"}`, class: transient, code: "incorrect_client_credentials", setup: true},
		},
	},
	{
		name: "slack", scopes: []string{"channels:read", "chat:write"},
		exchange: `{"ok":true,"app_id":"A1","authed_user":{"id":"U1","scope":"channels:read,chat:write","access_token":"at-1","token_type":"user","refresh_token":"rt-1","expires_in":43200},"team":{"id":"T1","name":"Acme"},"enterprise":null,"is_enterprise_install":false}`,
		account:  core.ProviderAccount{Issuer: "HOST", Tenant: "T1", Subject: "U1", Display: "Acme"},
		granted:  []string{"channels:read", "chat:write"},
		lifetime: 12 * time.Hour,
		// The answer to a refresh does not nest.
		refresh: `{"ok":true,"access_token":"at-2","token_type":"user","scope":"channels:read,chat:write","refresh_token":"rt-2","expires_in":43200,"user_id":"U1","team":{"id":"T1","name":"Acme"}}`,
		access:  "at-2", afterRefresh: 12 * time.Hour, spends: []string{"rt-1", "rt-2"},
		errors: []failure{
			{body: `{"ok":false,"error":"invalid_refresh_token","canary":1}`, class: permanent, code: "invalid_refresh_token", invalid: true},
			{body: `{"ok":false,"error":"token_revoked","canary":1}`, class: permanent, code: "token_revoked", invalid: true},
			{body: `{"ok":false,"error":"bad_client_secret","canary":1}`, class: transient, code: "bad_client_secret", setup: true},
			{body: `{"ok":false,"error":"fatal_error","canary":1}`, class: transient, code: "fatal_error"},
			{body: `{"ok":false,"error":"canary"}`, class: transient},
			{status: 429, header: map[string]string{"Retry-After": "30"}, body: `{"ok":false,"error":"ratelimited","canary":1}`, class: rateLimited, code: "ratelimited"},
			{exchange: true, body: `{"ok":false,"error":"invalid_code","canary":1}`, class: permanent, code: "invalid_code"},
			// Only a bot was authorised: the token of a person, which was asked for, is not there.
			{exchange: true, body: `{"ok":true,"access_token":"canary","token_type":"bot","bot_user_id":"B1","authed_user":{"id":"U1"},"team":{"id":"T1"}}`, class: transient},
		},
	},
	{
		name: "slack bot", scopes: []string{"chat:write"},
		change: func(in *core.Integration, _ *coretest.OAuthServer) {
			in.OAuth2.TokenPath, in.OAuth2.ScopeParam, in.Identity.SubjectPath = ".", "scope", "bot_user_id"
		},
		exchange:  `{"ok":true,"access_token":"at-1","token_type":"bot","scope":"chat:write","bot_user_id":"B1","app_id":"A1","team":{"id":"T1","name":"Acme"},"authed_user":{"id":"U1","access_token":"canary","scope":"search:read","token_type":"user"}}`,
		account:   core.ProviderAccount{Issuer: "HOST", Tenant: "T1", Subject: "B1", Display: "Acme"},
		granted:   []string{"chat:write"},
		authorize: map[string]string{"scope": "chat:write"},
		errors: []failure{
			{body: `{"ok":false,"error":"invalid_refresh_token","canary":1}`, class: permanent, code: "invalid_refresh_token", invalid: true},
		},
	},
	{
		name: "salesforce", scopes: []string{"api"},
		change: func(in *core.Integration, s *coretest.OAuthServer) {
			in.Identity.URL = "{instance_url}/userinfo"
			in.SentHosts = []core.SentHost{{Field: "instance_url", In: core.SentInToken, Hosts: []string{s.URL()}}}
			in.AllowedHosts = nil // the catalog's: the instance
		},
		exchange: `{"access_token":"at-1","refresh_token":"rt-1","signature":"canary=","scope":"refresh_token openid api","instance_url":"ORIGIN","id":"https://login.salesforce.com/id/00D50000000IZ3ZEAW/00550000001fg5OAAQ","token_type":"Bearer","issued_at":"1708058728442","id_token":"canary"}`,
		userInfo: `{"sub":"https://login.salesforce.com/id/00D50000000IZ3ZEAW/00550000001fg5OAAQ","user_id":"00550000001fg5OAAQ","organization_id":"00D50000000IZ3ZEAW","preferred_username":"ada@example.com"}`,
		account:  core.ProviderAccount{Issuer: "HOST", Tenant: "00D50000000IZ3ZEAW", Subject: "00550000001fg5OAAQ", Display: "ada@example.com"},
		granted:  []string{"refresh_token", "openid", "api"},
		form:     map[string]string{"format": "json"},
		refresh:  `{"access_token":"at-2","signature":"canary=","scope":"refresh_token openid api","instance_url":"ORIGIN","id":"https://login.salesforce.com/id/00D50000000IZ3ZEAW/00550000001fg5OAAQ","token_type":"Bearer","issued_at":"1708058728442"}`,
		access:   "at-2", spends: []string{"rt-1", "rt-1"},
		errors: []failure{
			dead(400, `{"error":"invalid_grant","error_description":"expired access/refresh token canary"}`),
			{status: 400, body: `{"error":"invalid_client","error_description":"invalid client credentials canary"}`, class: transient, code: "invalid_client", setup: true},
			{status: 400, body: `{"error":"inactive_user","error_description":"canary"}`, class: transient, code: "inactive_user"},
			{status: 403, body: `{"error":"rate_limit_exceeded","error_description":"canary"}`, class: rateLimited, code: "rate_limit_exceeded"},
			{exchange: true, status: 400, body: `{"error":"unsupported_grant_type","error_description":"grant type not supported canary"}`, class: transient, code: "unsupported_grant_type", setup: true},
		},
	},
	{
		name: "atlassian", scopes: []string{"read:jira-work"}, encoding: "application/json",
		exchange:  `{"access_token":"at-1","expires_in":3600,"token_type":"Bearer","refresh_token":"rt-1","scope":"read:me offline_access read:jira-work"}`,
		userInfo:  `{"account_type":"atlassian","account_id":"112233aa-bb11-cc22-33dd-445566abcabc","email":"ada@example.com","name":"Ada"}`,
		account:   core.ProviderAccount{Issuer: "HOST", Subject: "112233aa-bb11-cc22-33dd-445566abcabc", Display: "ada@example.com"},
		granted:   []string{"read:me", "offline_access", "read:jira-work"},
		lifetime:  time.Hour,
		authorize: map[string]string{"audience": "api.atlassian.com", "prompt": "consent", "scope": "read:me offline_access read:jira-work"},
		refresh:   `{"access_token":"at-2","refresh_token":"rt-2","expires_in":3600,"scope":"read:me offline_access read:jira-work"}`,
		access:    "at-2", afterRefresh: time.Hour, spends: []string{"rt-1", "rt-2"},
		errors: []failure{
			{status: 403, body: `{"error":"unauthorized_client","error_description":"refresh_token is invalid canary"}`, class: permanent, code: "unauthorized_client", invalid: true},
			dead(403, `{"error":"invalid_grant","error_description":"Unknown or invalid refresh token. canary"}`),
			{status: 401, body: `{"error":"access_denied","error_description":"Unauthorized canary"}`, class: transient, code: "access_denied", setup: true},
			// At the code it speaks of the client.
			{exchange: true, status: 403, body: `{"error":"unauthorized_client","error_description":"canary"}`, class: transient, code: "unauthorized_client", setup: true},
		},
	},
	{
		name: "notion", encoding: "application/json",
		exchange:  `{"access_token":"at-1","token_type":"bearer","refresh_token":"rt-1","bot_id":"3c90c3cc-0d44-4b50-8888-8dd25736052a","workspace_icon":null,"workspace_name":"Acme","workspace_id":"b0688871-7d83-4ca5-8dc7-2f7ff3d0bf8e","owner":{"type":"user","user":{"object":"user","id":"e79a0b74-3aba-4149-9f74-0bb5791a6ee6","name":"Ada","type":"person","person":{"email":"ada@example.com"}}},"duplicated_template_id":null,"request_id":"canary"}`,
		account:   core.ProviderAccount{Issuer: "HOST", Tenant: "b0688871-7d83-4ca5-8dc7-2f7ff3d0bf8e", Subject: "e79a0b74-3aba-4149-9f74-0bb5791a6ee6", Display: "Acme"},
		authorize: map[string]string{"owner": "user", "scope": ""},
		refresh:   `{"access_token":"at-2","token_type":"bearer","refresh_token":"rt-2","bot_id":"3c90c3cc-0d44-4b50-8888-8dd25736052a","workspace_id":"b0688871-7d83-4ca5-8dc7-2f7ff3d0bf8e","owner":{"type":"user","user":{"id":"e79a0b74-3aba-4149-9f74-0bb5791a6ee6"}},"request_id":"canary"}`,
		access:    "at-2", spends: []string{"rt-1", "rt-2"},
		errors: []failure{
			dead(400, `{"object":"error","status":400,"code":"invalid_grant","message":"canary","request_id":"canary"}`),
			dead(400, `{"error":"invalid_grant","error_description":"canary"}`),
			{status: 429, header: map[string]string{"Retry-After": "5"}, body: `{"object":"error","status":429,"code":"rate_limited","message":"canary"}`, class: rateLimited, code: "rate_limited"},
			{status: 503, body: `{"object":"error","status":503,"code":"database_connection_unavailable","message":"canary"}`, class: transient, code: "database_connection_unavailable"},
			{status: 401, body: `{"error":"invalid_client","canary":1}`, class: transient, code: "invalid_client", setup: true},
			{exchange: true, status: 400, body: `{"object":"error","status":400,"code":"validation_error","message":"canary"}`, class: transient},
		},
	},
	{
		name: "zoho", scopes: []string{"ZohoCRM.modules.ALL"},
		change: func(in *core.Integration, s *coretest.OAuthServer) {
			in.Identity.URL = "{accounts-server}/userinfo"
			in.AllowedHosts = nil // the catalog's: the API of the data centre
			in.SentHosts = []core.SentHost{
				{Field: "accounts-server", In: core.SentInCallback, Hosts: []string{s.URL()}, TokenHost: true},
				{Field: "api_domain", In: core.SentInToken, Hosts: []string{"www.zohoapis.eu"}, Optional: true},
			}
		},
		callback:  map[string]string{"location": "eu", "accounts-server": "ORIGIN"},
		exchange:  `{"access_token":"at-1","refresh_token":"rt-1","api_domain":"https://www.zohoapis.eu","token_type":"Bearer","expires_in":3600}`,
		userInfo:  `{"First_Name":"Ada","Email":"ada@example.com","Last_Name":"L","Display_Name":"ada","ZUID":20063736284}`,
		account:   core.ProviderAccount{Issuer: "HOST", Subject: "20063736284", Display: "ada@example.com"},
		granted:   []string{"AaaServer.profile.READ", "ZohoCRM.modules.ALL"}, // not told: as asked for
		lifetime:  time.Hour,
		authorize: map[string]string{"access_type": "offline", "prompt": "consent", "scope": "AaaServer.profile.READ,ZohoCRM.modules.ALL"},
		refresh:   `{"access_token":"at-2","expires_in":3600,"api_domain":"https://www.zohoapis.eu","token_type":"Bearer"}`,
		access:    "at-2", afterRefresh: time.Hour, spends: []string{"rt-1", "rt-1"},
		errors: []failure{
			{body: `{"error":"invalid_code","canary":1}`, class: permanent, code: "invalid_code", invalid: true},
			{status: 400, body: `{"error_description":"You have made too many requests continuously. canary","error":"Access Denied","status":"failure"}`, class: rateLimited, code: "Access Denied"},
			{body: `{"error":"Access Denied","status":"failure","canary":1}`, class: rateLimited, code: "Access Denied"},
			{body: `{"error":"invalid_client","canary":1}`, class: transient, code: "invalid_client", setup: true},
			{exchange: true, body: `{"error":"invalid_code","canary":1}`, class: permanent, code: "invalid_code"},
		},
	},
	{
		name: "hubspot", scopes: []string{"crm.objects.contacts.read"},
		exchange:  `{"token_type":"bearer","refresh_token":"rt-1","token_use":"access_token","hub_id":62515,"user_id":298437,"scopes":["oauth","crm.objects.contacts.read"],"access_token":"at-1","expires_in":1800}`,
		account:   core.ProviderAccount{Issuer: "HOST", Tenant: "62515", Subject: "298437"},
		granted:   []string{"oauth", "crm.objects.contacts.read"},
		lifetime:  30 * time.Minute,
		authorize: map[string]string{"scope": "oauth crm.objects.contacts.read"},
		refresh:   `{"token_type":"bearer","refresh_token":"rt-1","hub_id":62515,"scopes":["oauth","crm.objects.contacts.read"],"access_token":"at-2","expires_in":1800}`,
		access:    "at-2", afterRefresh: 30 * time.Minute, spends: []string{"rt-1", "rt-1"},
		errors: []failure{
			{status: 400, body: `{"error":"invalid_grant","error_description":"refresh token is invalid, expired or revoked canary","status":"BAD_REFRESH_TOKEN","message":"canary"}`, class: permanent, code: "BAD_REFRESH_TOKEN", invalid: true},
			{status: 400, body: `{"status":"BAD_REFRESH_TOKEN","message":"missing or invalid refresh token canary","correlationId":"canary"}`, class: permanent, code: "BAD_REFRESH_TOKEN", invalid: true},
			dead(400, `{"error":"invalid_grant","error_description":"canary"}`),
			{status: 400, body: `{"error":"invalid_client","status":"canary","message":"canary"}`, class: transient, code: "invalid_client", setup: true},
			{status: 429, body: `{"status":"error","message":"canary","errorType":"RATE_LIMIT"}`, class: rateLimited},
			{status: 400, body: `{"status":"error","message":"canary","category":"VALIDATION_ERROR"}`, class: transient},
			// Seen before answers had the field error.
			{exchange: true, status: 400, body: `{"status":"BAD_AUTH_CODE","message":"missing or unknown auth code canary"}`, class: permanent, code: "BAD_AUTH_CODE"},
		},
	},
	{
		name: "quickbooks", scopes: []string{"com.intuit.quickbooks.accounting"},
		callback:  map[string]string{"realmId": "9130347957983546"},
		change:    func(in *core.Integration, s *coretest.OAuthServer) { in.OAuth2.Issuer = s.Issuer() },
		exchange:  `{"x_refresh_token_expires_in":8726400,"access_token":"at-1","token_type":"bearer","expires_in":3600,"refresh_token":"rt-1","id_token":"ID_TOKEN({"sub":"1182d6ec-2a1f-4aa3-af3f-bb3b95db45af","aud":["CLIENT"],"realmid":"9130347957983546","auth_time":1463076064,"iss":"ORIGIN","exp":EXPIRY,"iat":1463076064})"}`,
		account:   core.ProviderAccount{Issuer: "ORIGIN", Tenant: "9130347957983546", Subject: "1182d6ec-2a1f-4aa3-af3f-bb3b95db45af"},
		granted:   []string{"openid", "com.intuit.quickbooks.accounting"},
		lifetime:  time.Hour,
		authorize: map[string]string{"scope": "openid com.intuit.quickbooks.accounting"},
		refresh:   `{"x_refresh_token_expires_in":8726400,"access_token":"at-2","token_type":"bearer","expires_in":3600,"refresh_token":"rt-2"}`,
		access:    "at-2", afterRefresh: time.Hour, spends: []string{"rt-1", "rt-2"},
		errors: []failure{
			dead(400, `{"error_description":"Incorrect or invalid refresh token canary","error":"invalid_grant"}`),
			dead(400, `{"error":"invalid_grant","canary":1}`),
			{status: 401, body: `{"error":"invalid_client","canary":1}`, class: transient, code: "invalid_client", setup: true},
			{exchange: true, status: 400, body: `{"error_description":"canary","error":"invalid_request"}`, class: transient, code: "invalid_request", setup: true},
		},
	},
}
