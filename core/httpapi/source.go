package httpapi

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/permission"
)

// postAction is row 20: the options of a dynamic input, from the sources that the host has registered.
func (a *api) postAction(w http.ResponseWriter, r *http.Request) error {
	u, err := a.caller(r)
	if err != nil {
		return err
	}
	var body struct {
		Action     string `json:"action"`
		SourceKey  string `json:"sourceKey"`
		Parameters []struct {
			Key    string `json:"key"`
			Source struct {
				Value any `json:"value"`
			} `json:"source"`
		} `json:"parameters"`
		Page struct {
			Cursor json.RawMessage `json:"pageCursor"`
			Search string          `json:"search"`
		} `json:"paginationParameters"`
	}
	if err := readJSON(r, &body); err != nil {
		return err
	}
	in, err := a.known.find(r.Context(), a, body.Action)
	if err != nil {
		return err
	}
	source, ok := a.opts.Sources[in.Name][body.SourceKey]
	if !ok {
		return errNotFound
	}
	query := SourceQuery{Search: body.Page.Search, Parameters: map[string]any{}}
	for _, p := range body.Parameters {
		query.Parameters[p.Key] = p.Source.Value
	}
	var cursor any
	if len(body.Page.Cursor) > 0 && json.Unmarshal(body.Page.Cursor, &cursor) == nil {
		query.Cursor, _ = cursor.(string) // the SDK asks for the first page with 0
	}
	sel, err := selected(r, in.Name)
	if err != nil {
		return err
	}
	c, err := u.Authorize(r.Context(), permission.Proxy, sel)
	if err != nil {
		return err
	}
	client, err := u.Client(r.Context(), core.Selector{Credential: c.ID})
	if err != nil {
		return err
	}
	noteCredential(r, c.ID)
	page, err := source(r.Context(), &c, client, query)
	if err != nil {
		if core.Code(err) == "internal" && !errors.Is(err, r.Context().Err()) { // the host's own words are for the log
			a.log.ErrorContext(r.Context(), "options could not be found", "requestId", requestID(r), "integration", in.Name, "source", body.SourceKey, "error", loggable(err))
			return &Error{http.StatusBadGateway, "source", "The choices could not be loaded. Try again."}
		}
		return err
	}
	if page.Records == nil {
		page.Records = []SourceRecord{}
	}
	output := map[string]any{"records": page.Records, "nextPageCursor": nil}
	if page.Next != "" {
		output["nextPageCursor"] = page.Next
	}
	w.Header().Set(headerUsed, c.ID)
	a.write(w, http.StatusOK, map[string]any{"output": output})
	return nil
}
