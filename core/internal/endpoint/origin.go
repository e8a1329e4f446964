package endpoint

import "strings"

// origin is a scheme, canonical host and canonical port.
type origin struct{ scheme, host, port string }

// authority returns host and port as a URL writes them, without the default port.
func (o origin) authority() string {
	full := joinHostPort(o.host, o.port)
	if o.port == defaultPort(o.scheme) {
		return strings.TrimSuffix(full, ":"+o.port)
	}
	return full
}

func (o origin) String() string { return o.scheme + "://" + o.authority() }

// parseOrigin parses what origin.String returned, and nothing else.
func parseOrigin(s string) (origin, error) {
	scheme, authority, ok := strings.Cut(s, "://")
	if !ok || scheme != "https" && scheme != "http" || len(s) > maxURL {
		return origin{}, urlError("it is not an origin")
	}
	host, port, problem := splitAuthority(scheme, authority)
	if problem != "" {
		return origin{}, urlError(problem)
	}
	o := origin{scheme, host, port}
	if o.String() != s {
		return origin{}, urlError("it is not an origin in canonical form")
	}
	return o, nil
}

// originValue returns the value of an Origin variable, held to the exact form that Sent.Parse returns and to its list,
// which may be another one than when the provider sent it.
func (v variable) originValue(values map[string]string) (origin, error) {
	s, ok := values[v.name]
	if !ok || s == "" {
		return origin{}, v.refuse("it has no value; connect the account again")
	}
	o, err := parseOrigin(s)
	if err != nil {
		return origin{}, v.refuse("its value is not an origin as the provider's answer was checked to be")
	}
	if !v.Origin.has(o) {
		return origin{}, v.refuse("the host that the provider sent for it is not on its list any more; connect the account again, or list the host")
	}
	return o, nil
}
