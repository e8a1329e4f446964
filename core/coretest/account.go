package coretest

import "cmp"

// Account is somebody who has an account at the provider. As JSON its names begin in lower case.
type Account struct {
	// Login is the name that SignIn, AddKey, Revoke and login_hint know the account by; empty means Subject. It
	// tells accounts apart that have the same subject in different tenants.
	Login string `json:"login"`

	// Subject is the account's identifier at the provider, the "sub" of ID tokens; empty means that the provider
	// does not tell it, and needs a Login.
	Subject string `json:"subject"`

	// Tenant is the workspace or organisation that the account belongs to; empty means none.
	Tenant string `json:"tenant"`

	// Name is what a person reads; empty means Subject, or else Login.
	Name string `json:"name"`

	// Email is the account's address; empty means that the provider does not tell it.
	Email string `json:"email"`
}

// AddAccount adds an account, or replaces the one of the same login, whose tokens live on. The first account added is
// signed in until SignIn says otherwise.
func (s *OAuthServer) AddAccount(a Account) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addFirstLocked(a)
}

// SignIn makes an account the one that consents from now on, as in a browser where that person is signed in at the
// provider. An unknown login is added as an account of which only the subject is known; an empty one signs everybody
// out, and the server then answers login_required. The parameter login_hint of an authorization request, a login or
// an email address, goes before it.
func (s *OAuthServer) SignIn(login string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.accounts[login]; !ok && login != "" {
		s.addAccountLocked(Account{Subject: login})
	}
	s.signedIn, s.chosen = login, true
}

// DenyNext makes the person refuse consent once: the next authorization request is answered by access_denied. It takes
// the place of any other fault of that endpoint.
func (s *OAuthServer) DenyNext() {
	s.Set(func(sw *Switches) { sw.Authorize = Fault{Error: "access_denied", Times: 1} })
}

// AddKey makes key an API key of an account, which is added if its login is unknown.
func (s *OAuthServer) AddKey(key, login string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.accounts[login]; !ok {
		s.addAccountLocked(Account{Subject: login})
	}
	s.keys[key] = login
}

// Revoke ends everything that an account has granted, as if the person had removed the application in the provider's
// own settings: codes, refresh tokens and access tokens, and the account's API keys too. The account stays, and may
// consent again. An unknown login is nothing to do.
func (s *OAuthServer) Revoke(login string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grants.revokeAccount(login)
	for key, owner := range s.keys {
		if owner == login {
			delete(s.keys, key)
		}
	}
}

// addFirstLocked adds an account, which is signed in unless somebody has been before.
func (s *OAuthServer) addFirstLocked(a Account) {
	login := s.addAccountLocked(a)
	if !s.chosen {
		s.signedIn, s.chosen = login, true
	}
}

// addAccountLocked returns the login under which it stored the account.
func (s *OAuthServer) addAccountLocked(a Account) string {
	a.Login = cmp.Or(a.Login, a.Subject)
	a.Name = cmp.Or(a.Name, a.Subject, a.Login)
	s.accounts[a.Login] = a
	return a.Login
}

// consentingLocked is the account that answers an authorization request: the hinted one, else the one signed in.
func (s *OAuthServer) consentingLocked(hint string) (Account, bool) {
	if hint == "" {
		a, ok := s.accounts[s.signedIn]
		return a, ok
	}
	if a, ok := s.accounts[hint]; ok {
		return a, true
	}
	for _, a := range s.accounts {
		if a.Email == hint {
			return a, true
		}
	}
	return Account{}, false
}

// claims are the account as userinfo and ID tokens describe it.
func (a Account) claims() map[string]any {
	m := map[string]any{"name": a.Name}
	if a.Subject != "" {
		m["sub"] = a.Subject
	}
	if a.Email != "" {
		m["email"] = a.Email
	}
	if a.Tenant != "" {
		m["tenant"] = a.Tenant
	}
	return m
}
