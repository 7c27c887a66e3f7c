package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/invopop/jsonschema"
)

// Schema returns the JSON Schema (draft 2020-12) of the configuration file,
// made from the types that the file is decoded to. What it accepts may still
// have faults that only Parse sees, such as an address outside of a subnet.
func Schema() ([]byte, error) {
	r := jsonschema.Reflector{
		FieldNameTag:               "yaml",
		RequiredFromJSONSchemaTags: true,
		ExpandedStruct:             true,
		Anonymous:                  true,
		Namer: func(t reflect.Type) string {
			return strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(t.Name(), "raw"), "Text"))
		},
	}
	s := r.Reflect(&rawConfig{})
	s.Title = "uvtep configuration"
	s.Description = "Configuration of uvtep, a userspace VXLAN VTEP with a DHCP server."
	out, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the schema: %w", err)
	}
	return append(out, '\n'), nil
}

func numberOr(lo, hi, word string) *jsonschema.Schema {
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{
		{Type: "integer", Minimum: json.Number(lo), Maximum: json.Number(hi)},
		{Type: "string", Enum: []any{word}},
	}}
}
