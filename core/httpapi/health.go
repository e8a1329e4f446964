package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/polycred/polycred/core"
)

// healthz says that the process answers.
func (a *api) healthz(w http.ResponseWriter, _ *http.Request) error {
	a.write(w, http.StatusOK, map[string]string{"status": "ok"})
	return nil
}

// readyz says whether requests can be served: 503 where the store cannot be read. Its problems are codes of core.Health.
func (a *api) readyz(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	health, err := a.engine.Health(ctx)
	if err != nil {
		return err
	}
	codes := []string{}
	for _, p := range health.Problems {
		codes = append(codes, string(p.Code))
	}
	status, text := http.StatusOK, "ok"
	if health.Status == core.HealthFailing {
		status, text = http.StatusServiceUnavailable, "unavailable"
	}
	a.write(w, status, map[string]any{"status": text, "problems": codes})
	return nil
}
