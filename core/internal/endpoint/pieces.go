package endpoint

import (
	"cmp"
	"strings"
)

// A piece is literal text or a variable.
type piece struct {
	text     string
	variable *variable // nil for literal text
}

// parsePieces splits text at its {placeholders}. raw is the whole pattern, for errors.
func parsePieces(raw, text string, vars map[string]Variable) ([]piece, error) {
	var pieces []piece
	for text != "" {
		literal, rest, open := strings.Cut(text, "{")
		if strings.Contains(literal, "}") {
			return nil, patternError(raw, "its braces are not balanced")
		}
		if literal != "" {
			pieces = append(pieces, piece{text: literal})
		}
		if !open {
			break
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed || strings.Contains(name, "{") {
			return nil, patternError(raw, "its braces are not balanced")
		}
		if !variableName.MatchString(name) {
			return nil, patternError(raw, "the name of a variable is a letter, then letters, digits, hyphens and underscores")
		}
		v, declared := vars[name]
		if !declared {
			return nil, &Error{Err: ErrPattern, Pattern: shown(raw), Variable: name, Problem: "it is not declared; declare it or correct the name"}
		}
		c, err := compileVariable(name, v)
		if err != nil {
			return nil, err
		}
		pieces = append(pieces, piece{variable: &c})
		text = after
	}
	return pieces, nil
}

func expandPieces(pieces []piece, values map[string]string) (string, error) {
	var b strings.Builder
	for _, p := range pieces {
		text := p.text
		if p.variable != nil {
			var err error
			if text, err = p.variable.value(values); err != nil {
				return "", err
			}
		}
		b.WriteString(text)
	}
	return b.String(), nil
}

func hasVariable(pieces []piece) bool {
	for _, p := range pieces {
		if p.variable != nil {
			return true
		}
	}
	return false
}

// soleOrigin returns the Origin variable that text consists of, nil when it is anything else. An Origin variable
// beside other text is an error.
func soleOrigin(raw string, pieces []piece) (*variable, error) {
	for _, p := range pieces {
		if p.variable == nil || p.variable.Origin == nil {
			continue
		}
		if len(pieces) != 1 {
			return nil, patternError(raw, "variable {"+p.variable.name+"} is a whole origin and cannot stand beside other text in the host")
		}
		return p.variable, nil
	}
	return nil, nil
}

// hostPattern is the host and port of a template or host pattern.
type hostPattern struct {
	scheme string
	port   string  // canonical, never empty
	pieces []piece // of the host without the port
	exact  string  // canonical host when there is no variable
	suffix string  // literal labels that every expansion ends with; empty when exact
	// private is set when every variable of the host permits a private suffix.
	private bool
}

// parseHost parses scheme and authority; raw is the whole pattern, for errors.
func parseHost(raw, scheme, authority string, vars map[string]Variable) (hostPattern, error) {
	h := hostPattern{scheme: scheme}
	if scheme != "https" && scheme != "http" {
		return h, patternError(raw, "its scheme must be https")
	}
	pieces, err := parsePieces(raw, authority, vars)
	if err != nil {
		return h, err
	}
	if sole, err := soleOrigin(raw, pieces); sole != nil || err != nil {
		return h, cmp.Or(err, patternError(raw, "its variable is a whole origin; write it without a scheme"))
	}
	if !hasVariable(pieces) {
		var problem string
		if h.exact, h.port, problem = splitAuthority(scheme, authority); problem != "" {
			return h, patternError(raw, problem)
		}
		return h, nil
	}
	if scheme != "https" {
		return h, patternError(raw, "a host with a variable must be https")
	}
	last := &pieces[len(pieces)-1]
	if last.variable != nil {
		return h, checkSuffix(raw, "", false)
	}
	// The port stands in the last piece, and only there: a colon before a variable would give the variable the port.
	host, port, colon := strings.Cut(last.text, ":")
	if colon && port == "" {
		return h, patternError(raw, "its port is empty")
	}
	if h.port = defaultPort(scheme); colon {
		var problem string
		if _, h.port, problem = splitAuthority(scheme, "a:"+port); problem != "" {
			return h, patternError(raw, problem)
		}
	}
	last.text = host
	h.private = true
	for _, p := range pieces {
		if p.variable == nil && strings.ContainsAny(p.text, ":[]") {
			return h, patternError(raw, "a variable cannot stand in a port or an address")
		}
		if p.variable != nil && !p.variable.PrivateSuffix {
			h.private = false
		}
	}
	_, h.suffix, _ = strings.Cut(host, ".")
	if err := checkSuffix(raw, h.suffix, h.private); err != nil {
		return h, err
	}
	// The literals must make a host name around some value: this finds "{x}..example.com" and bad characters.
	sample := ""
	for _, p := range pieces {
		if p.variable != nil {
			sample += "a"
		} else {
			sample += p.text
		}
	}
	if name, problem := canonicalName(sample); problem != "" || name != sample {
		return h, patternError(raw, "its host is not a host name in lower case and ASCII")
	}
	h.pieces = pieces
	return h, nil
}

// expand returns the canonical host for values.
func (h hostPattern) expand(values map[string]string) (string, error) {
	if h.exact != "" {
		return h.exact, nil
	}
	host, err := expandPieces(h.pieces, values)
	if err != nil {
		return "", err
	}
	name, problem := canonicalName(host)
	if problem != "" || name != strings.ToLower(host) || !within(name, h.suffix) || !sameOwner(name, h.suffix, h.private) {
		return "", &Error{Err: ErrValue, Variable: h.firstVariable(), Problem: "with its value the host is not a name below " + h.suffix}
	}
	return name, nil
}

func (h hostPattern) firstVariable() string {
	for _, p := range h.pieces {
		if p.variable != nil {
			return p.variable.name
		}
	}
	return ""
}
