package postgres

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
)

// target is where a DSN leads.
type target struct {
	config *pgxpool.Config
	schema string // empty: the first of the role's search path that holds a store, or else its first
}

// parse reads a DSN. Its errors say nothing about the text, since any part of one that is malformed may be the
// password.
func parse(dsn string, opts Options) (target, error) {
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return target{}, errors.New("the DSN cannot be read: want postgres://user:password@host:port/database?option=value " +
			"with special characters of the password percent-encoded, or host=… user=… password=… dbname=…")
	}
	if opts.MaxConns < 0 || opts.MaxConns > 1<<15 || opts.Timeout < 0 {
		return target{}, fmt.Errorf("options with MaxConns %d and Timeout %v are out of range", opts.MaxConns, opts.Timeout)
	}
	if opts.MaxConns > 0 {
		config.MaxConns = int32(opts.MaxConns)
		config.MinConns = min(config.MinConns, config.MaxConns)
	}
	t := target{config: config}
	params := config.ConnConfig.RuntimeParams
	if path, ok := params["search_path"]; ok {
		// The schema goes into our statements instead: PgBouncer refuses search_path as a parameter of the connection, and
		// lends connections on which others may have set it.
		if t.schema, err = schemaName(path); err != nil {
			return target{}, err
		}
		delete(params, "search_path")
	}
	if params["application_name"] == "" {
		params["application_name"] = "polycred"
	}
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = opts.Timeout
	}
	config.AfterConnect = opts.greet
	return t, nil
}

var plainName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_$]*$`)

// schemaName returns the only name of a search_path, read as PostgreSQL does: lower case unless quoted.
func schemaName(path string) (string, error) {
	path = strings.TrimSpace(path)
	if plainName.MatchString(path) {
		return strings.ToLower(path), nil
	}
	if n := len(path); n > 2 && path[0] == '"' && path[n-1] == '"' {
		name := strings.ReplaceAll(path[1:n-1], `""`, "\x00")
		if !strings.Contains(name, `"`) && name != "$user" {
			return strings.ReplaceAll(name, "\x00", `"`), nil
		}
	}
	return "", fmt.Errorf("the DSN's search_path %q must name the one schema of the store", path)
}
