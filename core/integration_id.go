package core

import "github.com/google/uuid"

// IntegrationID returns the id under which front ends know an integration, a UUID. It stands for project and name, so that it
// never changes and is known without asking; an integration that is deleted and declared again under its name has it again.
func (e *Engine) IntegrationID(name string) string {
	return uuid.NewSHA1(uuid.MustParse(e.Project()), []byte("integration\x00"+name)).String()
}
