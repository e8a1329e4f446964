package httpapi

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/polycred/polycred/core"
)

// healthz says that the process answers.
func (a *api) healthz(w http.ResponseWriter, _ *http.Request) error {
	a.write(w, http.StatusOK, map[string]string{"status": "ok"})
	return nil
}

// readiness is what the last look at the engine said: anybody may ask, so it is looked at once a second.
type readiness struct {
	mu     sync.Mutex // guards the rest, and keeps two from looking at once
	at     time.Time  // real
	health core.Health
}

func (r *readiness) look(ctx context.Context, e *core.Engine) (core.Health, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.at.IsZero() && time.Since(r.at) < time.Second {
		return r.health, nil
	}
	health, err := e.Health(ctx)
	if err == nil {
		r.health, r.at = health, time.Now()
	}
	return health, err
}

// readyz says whether requests can be served: 503 where the store cannot be read. Its problems are codes of core.Health.
func (a *api) readyz(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	health, err := a.ready.look(ctx, a.engine)
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
