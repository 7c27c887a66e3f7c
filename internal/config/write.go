package config

import (
	"reflect"
	"regexp"
	"strconv"
	"strings"
)

// YAML returns the configuration as a file, without what is at its default.
// Parse reads it back to an equal Config.
func (c *Config) YAML() []byte {
	var w writer
	w.mapping(reflect.ValueOf(rawOf(c)), 0)
	return []byte(w.String())
}

// writer writes raw structs, in the order of their fields: lists of scalars and
// mappings of scalars on one line, all else in blocks.
type writer struct{ strings.Builder }

func (w *writer) mapping(v reflect.Value, indent int) {
	for i := range v.NumField() {
		f := v.Field(i)
		if f.IsZero() || v.Type().Field(i).Tag.Get("yaml") == "-" {
			continue
		}
		if f.Kind() == reflect.Pointer {
			f = f.Elem()
		}
		w.WriteString(strings.Repeat(" ", indent) + v.Type().Field(i).Tag.Get("yaml") + ":")
		short := reflect.Value{}
		if raw, ok := f.Interface().(interface{ short() (any, bool) }); ok {
			if word, ok := raw.short(); ok {
				short = reflect.ValueOf(word)
			}
		}
		switch {
		case short.IsValid():
			w.WriteString(" " + flow(short) + "\n")
		case f.Kind() == reflect.Struct:
			w.WriteString("\n")
			w.mapping(f, indent+2)
		case f.Kind() == reflect.Slice && !isFlat(f):
			w.WriteString("\n")
			w.list(f, indent+2)
		default:
			w.WriteString(" " + flow(f) + "\n")
		}
	}
}

func (w *writer) list(v reflect.Value, indent int) {
	for i := range v.Len() {
		item := v.Index(i)
		dash := strings.Repeat(" ", indent) + "- "
		if isFlat(item) {
			w.WriteString(dash + flow(item) + "\n")
			continue
		}
		var inner writer
		inner.mapping(item, indent+2)
		w.WriteString(dash + inner.String()[indent+2:])
	}
}

// isFlat tells whether v is pleasant to read on one line.
func isFlat(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[rawSegment]() {
			return false
		}
		for i := range v.NumField() {
			f := v.Field(i)
			if f.Kind() == reflect.Pointer {
				f = f.Elem()
			}
			if !f.IsValid() || f.IsZero() {
				continue
			}
			if f.Kind() == reflect.Struct || f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Struct {
				return false
			}
		}
	case reflect.Slice:
		return v.Len() == 0 || v.Type().Elem().Kind() != reflect.Struct
	}
	return true
}

func flow(v reflect.Value) string {
	var parts []string
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Field(i)
			if f.IsZero() {
				continue
			}
			if f.Kind() == reflect.Pointer {
				f = f.Elem()
			}
			parts = append(parts, v.Type().Field(i).Tag.Get("yaml")+": "+flow(f))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case reflect.Slice:
		for i := range v.Len() {
			parts = append(parts, flow(v.Index(i)))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case reflect.Map:
		for _, k := range v.Interface().(vlanTable).order() {
			parts = append(parts, k+": "+flow(v.MapIndex(reflect.ValueOf(k))))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case reflect.Bool:
		return strconv.FormatBool(v.Bool())
	case reflect.Int64:
		return strconv.FormatInt(v.Int(), 10)
	}
	switch v.Interface().(type) {
	case numberOrWord, choice:
		return v.String()
	}
	return quote(v.String())
}

var (
	// plain is what no reader of YAML, old or new, takes for anything but text.
	plain = regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9_./-]*$`)
	// address covers IPv4 addresses, prefixes, ranges and ports of them, and
	// durations.
	address = regexp.MustCompile(`^([0-9]+(\.[0-9]+){3}(/[0-9]+|:[0-9]+|-[0-9]+(\.[0-9]+){3})?|[0-9]+(\.[0-9]+)?(us|ms|s|m|h)([0-9.]+(us|ms|s|m|h))*|[0-9]+-[0-9]+)$`)
	// reserved words mean something else, to some reader or other.
	reserved = regexp.MustCompile(`(?i)^(true|false|yes|no|y|n|on|off|null|nan|inf)$`)
	escapes  = strings.NewReplacer(`\`, `\\`, `"`, `\"`)
)

func quote(s string) string {
	if plain.MatchString(s) && !reserved.MatchString(s) || address.MatchString(s) {
		return s
	}
	return `"` + escapes.Replace(s) + `"`
}
