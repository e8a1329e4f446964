package httpapi

import (
	"cmp"
	"time"

	"github.com/google/uuid"
	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/input"
)

// The shapes that the SDK reads.

// wireCredential is an account.
type wireCredential struct {
	ID            string              `json:"id"`
	IntegrationID string              `json:"integrationId"`
	Integration   string              `json:"integration"` // its name; ours
	ProjectID     string              `json:"projectId"`
	PersonaID     string              `json:"personaId"`
	Status        core.Status         `json:"status"`
	ProviderID    string              `json:"providerId"`
	ProviderData  map[string]any      `json:"providerData"`
	ExternalID    string              `json:"externalId,omitempty"`
	Label         string              `json:"label,omitempty"`
	Owner         string              `json:"owner,omitempty"`
	Disabled      bool                `json:"disabled,omitempty"`
	Scopes        []string            `json:"scopes,omitempty"`
	Config        map[string]any      `json:"config"`
	Preview       bool                `json:"isPreviewCredential"`
	Created       time.Time           `json:"dateCreated"`
	Updated       time.Time           `json:"dateUpdated"`
	Refreshed     time.Time           `json:"dateRefreshed,omitzero"`
	ValidUntil    time.Time           `json:"dateValidUntil,omitzero"`
	Failures      int                 `json:"refreshFailureCount"`
	Refreshing    bool                `json:"isRefreshing"`
	Missing       []string            `json:"missing,omitempty"`
	Configs       []wireConfiguration `json:"configurations"`
}

// wireConfiguration is a configuration of an account.
type wireConfiguration struct {
	ID         string                   `json:"id"`
	Credential string                   `json:"connectCredentialId"`
	Default    bool                     `json:"isDefault"`
	Workflows  map[string]WorkflowState `json:"workflowSettings"`
	Settings   map[string]any           `json:"sharedSettings"`
	Passwords  []string                 `json:"passwords,omitempty"` // which are set; their values are never shown
	Missing    []string                 `json:"missing,omitempty"`
	Meta       map[string]any           `json:"configMeta"`
	ExternalID string                   `json:"externalId,omitempty"`
	Created    time.Time                `json:"dateCreated"`
	Updated    time.Time                `json:"dateUpdated"`
	ETag       string                   `json:"etag"` // for If-Match; ours
}

func (c *wireCredential) usable() bool { return c.Status == core.StatusValid && !c.Disabled }

// wireIntegration is an integration as it is set up in the project.
type wireIntegration struct {
	ID                string            `json:"id"`
	Type              string            `json:"type"`
	Name              string            `json:"name"`
	BrandColor        string            `json:"brandColor"`
	Active            bool              `json:"isActive"`
	AuthType          string            `json:"authenticationType"`
	NeedPreOauth      bool              `json:"needPreOauthInputs"`
	CustomID          *string           `json:"customIntegrationId"`
	Custom            *wireCustom       `json:"customIntegration"`
	Configs           []wireConfig      `json:"configs"`
	Workflows         []wireWorkflow    `json:"workflows"`
	SDK               wireSDKConfig     `json:"sdkIntegrationConfig"`
	Provider          map[string]any    `json:"providerData,omitempty"`
	HasCredential     bool              `json:"hasCredential"`
	LimitOnDev        bool              `json:"connectedUserLimitOnDevCred"`
	LimitReached      bool              `json:"connectedUserLimitReached"`
	Created           time.Time         `json:"dateCreated"`
	Updated           time.Time         `json:"dateUpdated"`
	AccountAuth       map[string]string `json:"accountAuth,omitempty"`
	SelectedAccount   *wireCredential   `json:"credential,omitempty"`
	PermissionedFlows []wireWorkflow    `json:"noPermissionWorkflows,omitempty"`
}

// wireCustom is a "custom" integration: one whose name begins with "custom.".
type wireCustom struct {
	ID          string      `json:"id"`
	Name        string      `json:"name"`
	Slug        string      `json:"slug"`
	Icon        string      `json:"icon"`
	InputFields []wireInput `json:"inputFields"`
}

type wireConfig struct {
	Values wireConfigValues `json:"values"`
}

type wireConfigValues struct {
	Description string                  `json:"description"`
	Overview    string                  `json:"overview"`
	Shared      wireSharedMeta          `json:"sharedMeta"`
	Workflows   map[string]workflowMeta `json:"workflowMeta"`
}

type wireSharedMeta struct {
	Inputs []wireInput `json:"inputs"`
}

type workflowMeta struct {
	ID      string      `json:"id"`
	Inputs  []wireInput `json:"inputs"`
	Info    string      `json:"infoText"`
	Enabled bool        `json:"defaultEnabled"`
	Hidden  bool        `json:"hidden"`
	Order   int         `json:"order"`
}

type wireWorkflow struct {
	ID            string `json:"id"`
	Description   string `json:"description"`
	IntegrationID string `json:"integrationId"`
}

type wireSDKConfig struct {
	AccountTypes  []any          `json:"accountTypes"`
	AuthConfig    []wireInput    `json:"authConfigInputs"`
	OAuth         []wireInput    `json:"oauthInputs"`
	PostOAuth     []wireInput    `json:"postOauthInputs"`
	DataSources   map[string]any `json:"dataSources"`
	SchemeOptions map[string]any `json:"authSchemeOptions"`
}

// wireInput is an input that a page shows.
type wireInput struct {
	ID          string         `json:"id"`
	Type        string         `json:"type"`
	Title       string         `json:"title"`
	Tooltip     string         `json:"tooltip,omitempty"`
	Placeholder string         `json:"placeholder,omitempty"`
	Required    bool           `json:"required"`
	Default     any            `json:"defaultValue,omitempty"`
	Values      []input.Option `json:"values,omitempty"`
}

// keyInput is the input of an API key.
const keyInput = "apiKey"

func inputsOf(all []input.Input) []wireInput {
	inputs := []wireInput{}
	for _, in := range all {
		inputs = append(inputs, wireInput{
			ID: in.ID, Type: string(in.Type), Title: cmp.Or(in.Title, in.ID), Tooltip: in.Tooltip, Placeholder: in.Placeholder,
			Required: in.Required, Default: in.Default, Values: in.Options,
		})
	}
	return inputs
}

// persona is the id under which front ends know a connected user beside their own: it stands for project and user.
func (a *api) persona(user string) string {
	return uuid.NewSHA1(uuid.MustParse(a.engine.Project()), []byte("user\x00"+user)).String()
}

// credential returns an account as the SDK reads it.
func (a *api) credential(c *core.Credential, configurations []wireConfiguration) wireCredential {
	data := map[string]any{}
	for name, value := range map[string]string{
		"displayName": c.Account.Display, "tenant": c.Account.Tenant, "issuer": c.Account.Issuer, "subject": c.Account.Subject,
	} {
		if value != "" {
			data[name] = value
		}
	}
	return wireCredential{
		ID: c.ID, IntegrationID: a.engine.IntegrationID(c.Integration), Integration: c.Integration, ProjectID: a.engine.Project(),
		PersonaID: a.persona(c.User), Status: c.Status, ProviderID: c.Account.Subject, ProviderData: data, ExternalID: c.ExternalID,
		Label: c.Label, Owner: c.Owner, Disabled: c.Disabled, Scopes: c.Scopes, Config: map[string]any{}, Created: c.Created, Updated: c.Updated,
		Refreshed: c.Refreshed, ValidUntil: c.ValidUntil, Failures: c.RefreshFailures, Refreshing: c.Refreshing, Missing: c.Missing,
		Configs: configurations,
	}
}
