package config

import (
	"errors"
	"fmt"
	"iter"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// decode reads data into raw, strictly, and notes where each value stands and
// every fault of form: unknown and repeated keys, wrong types, missing values.
// It returns false if data is not YAML at all.
func decode(s *source, data []byte, raw any) bool {
	if i := invalidUTF8(data); i >= 0 {
		line := 1 + strings.Count(string(data[:i]), "\n")
		col := 1 + utf8.RuneCount(data[strings.LastIndexByte(string(data[:i]), '\n')+1:i])
		s.faultAt(place{line: line, col: col}, "", "is not UTF-8 text")
		return false
	}
	file, err := parse(data)
	if err != nil {
		at, msg := syntaxFault(data, err)
		s.faultAt(at, "", "%s", msg)
		return false
	}
	var root ast.Node
	for _, doc := range file.Docs {
		switch {
		case doc.Body == nil || doc.Body.Type() == ast.CommentType:
		case root != nil:
			s.faultAt(startOf(doc.Body), "", "a second document: one file holds one configuration")
			return false
		default:
			root = doc.Body
		}
	}
	if root != nil && root.Type() != ast.NullType {
		s.value(root, reflect.ValueOf(raw).Elem(), "", place{line: 1, col: 1})
	}
	return true
}

// parse is parser.ParseBytes, whose panics on odd input become errors.
func parse(data []byte) (f *ast.File, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("is not YAML: %v", r)
		}
	}()
	return parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
}

func syntaxFault(data []byte, err error) (place, string) {
	at, msg := place{line: 1, col: 1}, err.Error()
	if known := yaml.Error(nil); errors.As(err, &known) {
		msg = known.GetMessage()
		if tk := known.GetToken(); tk != nil && tk.Position != nil {
			at = placeOfToken(tk)
		}
	}
	if lines := strings.Split(string(data), "\n"); strings.Contains(msg, "'\t'") || strings.Contains(msg, "tab character") {
		if before, _, tab := strings.Cut(lines[min(at.line, len(lines))-1], "\t"); tab {
			return place{line: at.line, col: 1 + utf8.RuneCountInString(before)}, "is a tab: YAML indents by blanks"
		}
	}
	return at, strings.Join(strings.Fields(msg), " ")
}

// value decodes n, whose key stands at key, into v.
func (s *source) value(n ast.Node, v reflect.Value, p path, key place) {
	at := placeOf(n)
	switch m := n.(type) {
	case *ast.MappingNode:
		if !m.IsFlowStyle {
			at = key
		}
	case *ast.MappingValueNode:
		at = key
	case *ast.SequenceNode:
		if !m.IsFlowStyle {
			at = key
		}
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		s.places[p] = at
		s.fault(p, "anchors, aliases and tags are not understood here: write the value out")
		return
	}
	s.places[p] = at
	if n.Type() == ast.NullType {
		s.fault(p, "has no value: give it one, or leave the key out")
		return
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.Struct:
		s.mapping(n, v, p)
	case reflect.Slice:
		s.list(n, v, p)
	case reflect.Map:
		s.table(n, v, p)
	case reflect.Bool:
		b, ok := n.(*ast.BoolNode)
		if !ok {
			s.fault(p, "true or false is needed, not %s", kindOf(n))
			return
		}
		v.SetBool(b.Value)
	case reflect.Int64:
		s.number(n, v, p)
	case reflect.String:
		s.text(n, v, p)
	}
}

// A shorthand is a mapping that a text may stand for: of one of its keys or, where
// key is empty, of all.
type shorthand interface {
	shorthand(text string) (key string)
	shortForm() string // what the text is
}

// A spread is a mapping that a number may stand for, which all of its keys get.
type spread interface {
	all(n int64)
}

func (s *source) mapping(n ast.Node, v reflect.Value, p path) {
	entries, ok := entriesOf(n)
	if !ok {
		needed := "a mapping of keys"
		switch short := v.Addr().Interface().(type) {
		case interface{ turn(on bool) }:
			if b, is := n.(*ast.BoolNode); is {
				short.turn(b.Value)
				return
			}
			needed = "true, false or " + needed
		case spread:
			if n.Type() == ast.IntegerType {
				var each int64
				s.number(n, reflect.ValueOf(&each).Elem(), p)
				short.all(each)
				return
			}
			needed = "a number or " + needed
		case shorthand:
			if word, is := n.(*ast.StringNode); is {
				if key := short.shorthand(word.Value); key != "" {
					s.places[p.key(key)] = s.places[p]
				}
				return
			}
			needed = short.shortForm() + " or " + needed
		}
		s.fault(p, "%s is needed, not %s", needed, kindOf(n))
		return
	}
	fields := keysOf(v.Type())
	for name, e := range s.distinct(entries, p) {
		i := slices.Index(fields, name)
		if i < 0 || name == "-" {
			s.faultAt(placeOf(e.Key), p.key(name), "%s", unknown(name, fields))
		} else if s.valued(e, p.key(name)) {
			s.value(e.Value, v.Field(i), p.key(name), placeOf(e.Key))
		}
	}
}

// distinct are the entries of a mapping with their names; one that is given twice
// is a fault the second time.
func (s *source) distinct(entries []*ast.MappingValueNode, p path) iter.Seq2[string, *ast.MappingValueNode] {
	return func(yield func(string, *ast.MappingValueNode) bool) {
		seen := make(map[string]place, len(entries))
		for _, e := range entries {
			name, at := keyName(e.Key), placeOf(e.Key)
			if first, twice := seen[name]; twice {
				s.faultAt(at, p.key(name), "is given twice, first on line %d", first.line)
				continue
			}
			seen[name] = at
			if !yield(name, e) {
				return
			}
		}
	}
}

// valued reports whether an entry has a value; it is a fault where it has none.
func (s *source) valued(e *ast.MappingValueNode, p path) bool {
	if e.Value != nil {
		return true
	}
	at := placeOf(e.Key)
	s.faultAt(at, p, "has no value: give it one, or leave the key out")
	s.places[p] = place{line: at.line, col: at.col, bad: true}
	return false
}

// table decodes a mapping whose keys are data: numbers to numbers.
func (s *source) table(n ast.Node, v reflect.Value, p path) {
	entries, ok := entriesOf(n)
	if !ok {
		s.fault(p, "a mapping of numbers is needed, not %s", kindOf(n))
		return
	}
	v.Set(reflect.MakeMapWithSize(v.Type(), len(entries)))
	for name, e := range s.distinct(entries, p) {
		if s.valued(e, p.key(name)) {
			number := reflect.New(v.Type().Elem()).Elem()
			s.value(e.Value, number, p.key(name), placeOf(e.Key))
			v.SetMapIndex(reflect.ValueOf(name), number)
		}
	}
}

// unknown says what is wrong with a key that a struct does not have.
func unknown(name string, fields []string) string {
	if meant := suggest(name, fields); meant != "" {
		return "unknown key; did you mean " + meant + "?"
	}
	return "unknown key"
}

func (s *source) list(n ast.Node, v reflect.Value, p path) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		s.fault(p, "a list is needed, not %s", kindOf(n))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values)))
	for i, item := range seq.Values {
		s.value(item, v.Index(i), p.index(i), startOf(item))
	}
}

// A number is plain decimal: YAML's octal, hexadecimal and underscores hide
// mistakes, such as 0100 for 64.
var decimal = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)

func (s *source) number(n ast.Node, v reflect.Value, p path) {
	text := n.GetToken().Value
	integer := n.Type() == ast.IntegerType
	huge := n.Type() == ast.StringType && n.GetToken().Type == token.StringType && decimal.MatchString(text)
	switch {
	case !integer && !huge:
		s.fault(p, "a whole number is needed, not %s", kindOf(n))
	case !decimal.MatchString(text):
		s.fault(p, "%s is not a plain decimal number", text)
	default:
		i, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			s.fault(p, "%s is far out of range", text)
			return
		}
		v.SetInt(i)
	}
}

func (s *source) text(n ast.Node, v reflect.Value, p path) {
	_, orNumber := v.Interface().(numberOrWord)
	switch t := n.(type) {
	case *ast.StringNode:
		switch {
		case orNumber && decimal.MatchString(t.Value) && t.GetToken().Type == token.StringType:
			s.fault(p, "%s is far out of range", t.Value)
		case orNumber && decimal.MatchString(t.Value):
			s.fault(p, "a number is written without quotes: %s", t.Value)
		}
		v.SetString(t.Value)
		if _, is := v.Interface().(dfText); is && (t.Value == "true" || t.Value == "false") {
			s.fault(p, "%s is written without quotes", t.Value)
		}
	case *ast.LiteralNode:
		v.SetString(t.Value.Value)
	case *ast.BoolNode:
		if _, is := v.Interface().(dfText); is {
			v.SetString(strconv.FormatBool(t.Value))
			return
		}
		s.fault(p, "a text is needed, not %s", kindOf(n))
	case *ast.IntegerNode:
		if orNumber {
			v.SetString(t.GetToken().Value)
			return
		}
		switch v.Interface().(type) {
		case durationText, probeText:
			s.fault(p, "a duration needs its unit, such as %ss", t.GetToken().Value)
			return
		}
		s.fault(p, "a text is needed, not a number; put it in quotes if it is meant so")
	default:
		s.fault(p, "a text is needed, not %s", kindOf(n))
	}
	if !isText(v.String()) {
		s.fault(p, "holds characters that cannot be printed")
	}
}

// entriesOf returns the entries of a mapping, false if n is none.
func entriesOf(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch m := n.(type) {
	case *ast.MappingNode:
		return m.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{m}, true
	}
	return nil, false
}

func keyName(k ast.MapKeyNode) string {
	if tk := k.GetToken(); tk != nil {
		quoted := strconv.Quote(tk.Value) // a fault is one line, whatever the key holds
		return quoted[1 : len(quoted)-1]
	}
	return "?"
}

// keysOf lists the keys of a raw struct, in the order of its fields; "-" for one
// that has none.
func keysOf(t reflect.Type) []string {
	keys := make([]string, t.NumField())
	for i := range keys {
		keys[i] = t.Field(i).Tag.Get("yaml")
	}
	return keys
}

func kindOf(n ast.Node) string {
	switch n.Type() {
	case ast.MappingType, ast.MappingValueType:
		return "a mapping"
	case ast.SequenceType:
		return "a list"
	case ast.IntegerType, ast.FloatType, ast.InfinityType, ast.NanType:
		return "the number " + n.GetToken().Value
	case ast.BoolType:
		return n.GetToken().Value
	case ast.StringType:
		return strconv.Quote(n.(*ast.StringNode).Value)
	}
	return "this"
}

// startOf is where a value begins; the place of a mapping is its first colon.
func startOf(n ast.Node) place {
	if m, ok := n.(*ast.MappingNode); ok && m.IsFlowStyle {
		return placeOf(n)
	}
	if entries, ok := entriesOf(n); ok && len(entries) > 0 {
		return placeOf(entries[0].Key)
	}
	return placeOf(n)
}

func placeOf(n ast.Node) place {
	if tk := n.GetToken(); tk != nil && tk.Position != nil {
		return placeOfToken(tk)
	}
	return place{line: 1, col: 1}
}

func placeOfToken(tk *token.Token) place {
	return place{line: max(tk.Position.Line, 1), col: max(tk.Position.Column, 1)}
}

func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size <= 1 {
			return i
		}
		i += size
	}
	return -1
}

// isText tells whether a value can be written as text.
func isText(v string) bool {
	return utf8.ValidString(v) && !strings.ContainsFunc(v, func(r rune) bool { return !unicode.IsPrint(r) })
}
