package badger

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
)

// logger hands Badger's messages to slog, one level lower than Badger thinks of them: what it calls info concerns its
// developers. Its debug messages come with every commit and quote keys, and are dropped.
type logger struct{ log *slog.Logger }

func (l logger) Errorf(format string, args ...any)   { l.write(slog.LevelError, format, args) }
func (l logger) Warningf(format string, args ...any) { l.write(slog.LevelWarn, format, args) }
func (l logger) Infof(format string, args ...any)    { l.write(slog.LevelDebug, format, args) }
func (l logger) Debugf(string, ...any)               {}

func (l logger) write(level slog.Level, format string, args []any) {
	ctx := context.Background()
	if l.log.Enabled(ctx, level) {
		l.log.Log(ctx, level, "badger: "+strings.TrimSpace(fmt.Sprintf(format, args...)))
	}
}
