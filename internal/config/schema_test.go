package config

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

func TestTheSchemaHasTheKeysOfTheFile(t *testing.T) {
	root := mustSchema(t)
	if root["$schema"] != "https://json-schema.org/draft/2020-12/schema" {
		t.Errorf("the draft is %v", root["$schema"])
	}
	want := map[string]bool{}
	eachKey(reflect.TypeFor[rawConfig](), "", func(p path) { want[string(p)] = true })
	got := map[string]bool{}
	schemaKeys(t, root, root, "", got)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the schema has %d keys, the file %d", len(got), len(want))
		for p := range want {
			if !got[p] {
				t.Errorf("%s is missing", p)
			}
		}
	}
}

// schemaKeys collects the paths of all properties, and checks that each is
// described and that no object takes further ones.
func schemaKeys(t *testing.T, root, s map[string]any, p path, into map[string]bool) {
	if ref, ok := s["$ref"].(string); ok {
		name := strings.TrimPrefix(ref, "#/$defs/")
		schemaKeys(t, root, root["$defs"].(map[string]any)[name].(map[string]any), p, into)
	}
	for _, alternative := range []string{"oneOf", "anyOf"} {
		list, _ := s[alternative].([]any)
		for _, a := range list {
			schemaKeys(t, root, a.(map[string]any), p, into)
		}
	}
	if items, ok := s["items"].(map[string]any); ok {
		schemaKeys(t, root, items, p+"[]", into)
	}
	properties, ok := s["properties"].(map[string]any)
	if !ok {
		return
	}
	if s["additionalProperties"] != false {
		t.Errorf("%q takes any key", p)
	}
	for key, v := range properties {
		property := v.(map[string]any)
		if property["description"] == nil {
			t.Errorf("%s is not described", p.key(key))
		}
		into[string(p.key(key))] = true
		schemaKeys(t, root, property, p.key(key), into)
	}
}

func mustSchema(t *testing.T) map[string]any {
	t.Helper()
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	var root map[string]any
	if err := json.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	return root
}

func TestTheSchemaAcceptsTheShippedFile(t *testing.T) {
	data, err := os.ReadFile(shipped)
	if err != nil {
		t.Fatal(err)
	}
	if err := acceptedBy(mustSchema(t), data); err != nil {
		t.Error(err)
	}
}

func TestTheSchemaRefusesWhatIsWrong(t *testing.T) {
	root := mustSchema(t)
	const ok = "underlay: {local: 10.9.0.1}\n"
	if err := acceptedBy(root, []byte(ok)); err != nil {
		t.Fatal(err)
	}
	for _, data := range []string{
		"{}",
		"underlay: {local: 5}",
		"underlay: {local: 10.9.0.1, port: 0}",
		"underlay: {local: 10.9.0.1, accept: some}",
		"underlay: {local: 10.9.0.1, ttl: 256}",
		"underlay: {local: 10.9.0.1, ttl: inherited}",
		"underlay: {local: 10.9.0.1, tos: 3}",
		"underlay: {local: 10.9.0.1, df: \"true\"}",
		"underlay: {local: 10.9.0.1, df: unset}",
		ok + "segment: []",
		ok + "segments: [{}]",
		ok + "segments: [{vni: 16777216}]",
		ok + "segments: [{vni: 1, ports: [{tap: a/b}]}]",
		ok + "segments: [{vni: 1, ports: [{tap: sixteen-letters-}]}]",
		ok + "segments: [{vni: 1, fdb: [{mac: \"02:00:00:00:00:01\"}]}]",
		ok + "segments: [{vni: 1, dhcp: 192.168.0.0}]",
		ok + "segments: [{vni: 1, dhcp: {}}]",
		ok + "segments: [{vni: 1, dhcp: {subnet: 10.0.0.0/8, options: [{code: 42}]}}]",
		ok + "segments: [{vni: 1, dhcp: {subnet: 10.0.0.0/8, options: [{code: 42, hex: \"00\", text: a}]}}]",
		ok + "segments: [{vni: 1, dhcp: {subnet: 10.0.0.0/8, lease: 12}}]",
		ok + "segments: [{vni: 1, dhcp: {subnet: 10.0.0.0/8, classes: [{vendor: a, user: b, options: [{code: 42, hex: \"00\"}]}]}}]",
		ok + "segments: [{vni: 1, dhcp: {subnet: 10.0.0.0/8, classes: [{vendor: a}]}}]",
		ok + "segments: [{vni: 1, dhcp: {subnet: 10.0.0.0/8, probe: 200}}]",
		ok + "segments: [{vni: 1, dhcp: {subnet: 10.0.0.0/8, probe: never}}]",
		ok + "segments: [{vni: 1, dhcp: {subnet: 10.0.0.0/8, hosts: [{ip: 10.0.0.9}]}}]",
		ok + "segments: [{vni: 1, dhcp6: 10.0.0.0/8}]",
		ok + "segments: [{vni: 1, dhcp6: {}}]",
		ok + "segments: [{vni: 1, dhcp6: {subnet: \"2001:db8::/64\", hosts: [{ip: \"2001:db8::9\"}]}}]",
		ok + "segments: [{vni: 1, dhcp6: {subnet: \"2001:db8::/64\", prefixes: [{prefix: \"2001:db8::/64\"}]}}]",
		ok + "segments: [{vni: 1, ra: on}]",
		ok + "segments: [{vni: 1, ra: {mtu: 1279}}]",
		ok + "segments: [{vni: 1, ports: [{tap: a, max_leases: -1}]}]",
		ok + "segments: [{vni: 1, ports: [{tap: a, storm: -1}]}]",
		ok + "segments: [{vni: 1, ports: [{tap: a, storm: {broadcast: 1.5}}]}]",
		ok + "segments: [{vni: 1, ports: [{tap: a, gbp: 65536}]}]",
		ok + "segments: [{vni: 1, ports: [{tap: a, gbp_allow: []}]}]",
		ok + "trunks: [{vlans: {1: 1}}]",
		ok + "trunks: [{tap: a}]",
		ok + "trunks: [{tap: a, vlans: {0: 1}}]",
		ok + "trunks: [{tap: a, vlans: {4095: 1}}]",
		ok + "trunks: [{tap: a, vlans: {1: 16777216}}]",
		ok + "trunks: [{tap: a, vlans: {x: 1}}]",
		ok + "trunks: [{tap: a, native: 0}]",
		ok + "pairs: [{name: p, a: {vni: 1}}]",
		ok + "pairs: [{name: p, a: {vni: 1}, b: {vlan: 1}}]",
		ok + "pairs: [{name: p, a: {vni: 1}, b: {vni: 2, vlan: 4095}}]",
	} {
		if acceptedBy(root, []byte(data)) == nil {
			t.Errorf("accepted: %s", data)
		}
	}
}

// acceptedBy is a validator of the part of JSON Schema that Schema uses.
func acceptedBy(root map[string]any, data []byte) error {
	var v any
	if err := yaml.Unmarshal(data, &v); err != nil {
		return err
	}
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return err
	}
	return accept(root, root, v, "")
}

func accept(root, s map[string]any, v any, p path) error {
	for keyword, arg := range s {
		if err := keywordAccepts(root, s, keyword, arg, v, p); err != nil {
			return err
		}
	}
	return nil
}

func keywordAccepts(root, s map[string]any, keyword string, arg, v any, p path) error {
	object, isObject := v.(map[string]any)
	text, isText := v.(string)
	number, isNumber := v.(float64)
	list, isList := v.([]any)
	ok := true
	switch keyword {
	case "$schema", "$defs", "title", "description":
	case "$ref":
		name := strings.TrimPrefix(arg.(string), "#/$defs/")
		return accept(root, root["$defs"].(map[string]any)[name].(map[string]any), v, p)
	case "type":
		_, isBool := v.(bool)
		ok = map[any]bool{"object": isObject, "string": isText, "array": isList, "boolean": isBool,
			"integer": isNumber && number == float64(int64(number))}[arg]
	case "enum":
		ok = slices.Contains(arg.([]any), v)
	case "pattern":
		ok = !isText || regexp.MustCompile(arg.(string)).MatchString(text)
	case "format":
		a, err := netip.ParseAddr(text)
		ok = !isText || err == nil && a.Is4() == (arg == "ipv4")
	case "minLength":
		ok = !isText || float64(len(text)) >= arg.(float64)
	case "maxLength":
		ok = !isText || float64(len(text)) <= arg.(float64)
	case "minimum":
		ok = !isNumber || number >= arg.(float64)
	case "maximum":
		ok = !isNumber || number <= arg.(float64)
	case "multipleOf":
		ok = !isNumber || int64(number)%int64(arg.(float64)) == 0
	case "minItems":
		ok = !isList || float64(len(list)) >= arg.(float64)
	case "maxItems":
		ok = !isList || float64(len(list)) <= arg.(float64)
	case "required":
		for _, key := range arg.([]any) {
			_, there := object[key.(string)]
			ok = ok && (there || !isObject)
		}
	case "oneOf", "anyOf":
		matches := 0
		for _, a := range arg.([]any) {
			if accept(root, a.(map[string]any), v, p) == nil {
				matches++
			}
		}
		ok = matches == 1 || keyword == "anyOf" && matches > 0
	case "items":
		for i := range list {
			if err := accept(root, arg.(map[string]any), list[i], p.index(i)); err != nil {
				return err
			}
		}
	case "properties":
		for key, sub := range arg.(map[string]any) {
			if value, there := object[key]; there {
				if err := accept(root, sub.(map[string]any), value, p.key(key)); err != nil {
					return err
				}
			}
		}
	case "additionalProperties":
		properties, _ := s["properties"].(map[string]any)
		for key, value := range object {
			if _, known := properties[key]; known {
				continue
			}
			if of, any := arg.(map[string]any); any {
				if err := accept(root, of, value, p.key(key)); err != nil {
					return err
				}
				continue
			}
			ok = false
		}
	case "propertyNames":
		for key := range object {
			if err := accept(root, arg.(map[string]any), key, p.key(key)); err != nil {
				return err
			}
		}
	default:
		return fmt.Errorf("%s: the keyword %s is not known to this test", p, keyword)
	}
	if !ok {
		return fmt.Errorf("%s: %s %v refuses %v", p, keyword, arg, v)
	}
	return nil
}
