package vtep_test

import (
	"bytes"
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/uvtep/uvtep/vtep"
	"github.com/uvtep/uvtep/vtep/vteptest"
)

// blocks are the Go code blocks of docs/embedding.md.
func blocks(t *testing.T) []string {
	t.Helper()
	doc, err := os.ReadFile("../docs/embedding.md")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, part := range strings.Split(string(doc), "```go\n")[1:] {
		code, _, ok := strings.Cut(part, "```\n")
		if !ok {
			t.Fatal("a code block has no end")
		}
		out = append(out, code)
	}
	return out
}

// function is the source of a function, its comment included.
func function(t *testing.T, src []byte, name string) string {
	t.Helper()
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, "", src, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Name.Name == name {
			from := fn.Pos()
			if fn.Doc != nil {
				from = fn.Doc.Pos()
			}
			return string(src[set.Position(from).Offset:set.Position(fn.End()).Offset])
		}
	}
	t.Fatalf("no function %s", name)
	return ""
}

func TestTheDocumentsProgramIsTheExampleThatRuns(t *testing.T) {
	example, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	code := blocks(t)
	if len(code) != 2 {
		t.Fatalf("%d code blocks, want the program and its test", len(code))
	}
	if got, want := function(t, []byte(code[0]), "overlay"), function(t, example, "overlay"); got != want {
		t.Errorf("the document's overlay is\n%s\nthe example's\n%s", got, want)
	}
	if got, want := strings.TrimSuffix(code[1], "\n"), function(t, example, "Example"); got != want {
		t.Errorf("the document's test is\n%s\nthe example\n%s", got, want)
	}
}

// The program is checked as another module's would be: where nothing internal
// can be imported.
func TestTheDocumentsProgramCompilesOutsideOfThisModule(t *testing.T) {
	file := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(file, []byte(blocks(t)[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "vet", file).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// Whoever imports a package must be able to say every type that its exported
// names mention: of those of internal packages the ones that seams.go names.
func TestNoExportedNameNeedsAnInternalPackageToBeUsed(t *testing.T) {
	named := map[string]bool{}
	for _, c := range []struct {
		dir   string
		names bool // its seams.go gives internal types public names
	}{{".", true}, {"vteptest", false}} {
		files, err := filepath.Glob(filepath.Join(c.dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		var mentioned []string
		set := token.NewFileSet()
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(set, file, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			internal := map[string]bool{}
			for _, i := range f.Imports {
				if strings.Contains(i.Path.Value, "/internal/") {
					internal[strings.Trim(i.Path.Value[strings.LastIndex(i.Path.Value, "/"):], `/"`)] = true
				}
			}
			seams := c.names && filepath.Base(file) == "seams.go"
			look := func(n ast.Node) {
				ast.Inspect(n, func(n ast.Node) bool {
					s, ok := n.(*ast.SelectorExpr)
					if !ok {
						return true
					}
					if pkg, ok := s.X.(*ast.Ident); ok && internal[pkg.Name] {
						name := pkg.Name + "." + s.Sel.Name
						if seams {
							named[name] = true
						} else {
							mentioned = append(mentioned, fmt.Sprint(set.Position(s.Pos()), ": ", name))
						}
					}
					return true
				})
			}
			for _, d := range f.Decls {
				exported(d, look)
			}
		}
		for _, m := range mentioned {
			if _, name, _ := strings.Cut(m, ": "); !named[name] {
				t.Errorf("%s cannot be said by an importer", m)
			}
		}
	}
	if len(named) == 0 {
		t.Error("seams.go names nothing")
	}
}

// exported has look see the types in the exported part of a declaration.
func exported(d ast.Decl, look func(ast.Node)) {
	fields := func(l *ast.FieldList, all bool) {
		if l == nil {
			return
		}
		for _, f := range l.List {
			show := all || len(f.Names) == 0
			for _, n := range f.Names {
				show = show || n.IsExported()
			}
			if show {
				look(f.Type)
			}
		}
	}
	switch d := d.(type) {
	case *ast.FuncDecl:
		if !d.Name.IsExported() || d.Recv != nil && !receiver(d.Recv.List[0].Type).IsExported() {
			return
		}
		fields(d.Type.Params, true)
		fields(d.Type.Results, true)
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				if !s.Name.IsExported() {
					continue
				}
				switch typ := s.Type.(type) {
				case *ast.StructType:
					fields(typ.Fields, false)
				default:
					look(typ)
				}
			case *ast.ValueSpec:
				for _, n := range s.Names {
					if n.IsExported() && s.Type != nil {
						look(s.Type)
					}
				}
			}
		}
	}
}

func receiver(e ast.Expr) *ast.Ident {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	}
	return e.(*ast.Ident)
}

// pipe is a device that an importer could have written: what is put in front of
// it comes out of its Read, and what is written is kept.
type pipe struct {
	mu      sync.Mutex
	in, out [][]byte
	wake    func()
	came    chan struct{}
}

func (p *pipe) Name() string               { return "pipe" }
func (p *pipe) Queues() []vtep.DeviceQueue { return []vtep.DeviceQueue{p} }
func (p *pipe) SetMTU(int) error           { return nil }
func (p *pipe) Close() error               { return nil }
func (p *pipe) Fd() int                    { return -1 }

func (p *pipe) Notify(wake func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wake = wake
}

// Offload implements vtep.Device: plain frames only.
func (p *pipe) Offload() vtep.DeviceOffload { return 0 }

func (p *pipe) send(b []byte) {
	p.mu.Lock()
	p.in = append(p.in, b)
	wake := p.wake
	p.mu.Unlock()
	wake()
}

func (p *pipe) Read(b *vtep.Batch) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for ; len(p.in) > 0; n++ {
		f := b.Next()
		if f == nil {
			break
		}
		b.Commit(copy(f.Buffer(), p.in[0]))
		p.in = p.in[1:]
	}
	return n, nil
}

func (p *pipe) Write(frames []*vtep.Frame) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range frames {
		p.out = append(p.out, bytes.Clone(f.Bytes()))
	}
	select {
	case p.came <- struct{}{}:
	default:
	}
	return len(frames)
}

var _ vtep.Device = (*pipe)(nil)

func TestADeviceOfAnImportersOwnIsAPort(t *testing.T) {
	n := vteptest.NewNetwork()
	h := n.NewHost(t, n.Config(netip.MustParseAddr("10.9.0.1")))
	s := h.NewSegment(t, vtep.SegmentConfig{VNI: 100})
	p := &pipe{came: make(chan struct{}, 1)}
	if _, err := s.AttachPort(vtep.PortConfig{Name: "mine", Device: p}); err != nil {
		t.Fatal(err)
	}
	g := h.NewGuest(t, 100, vtep.PortConfig{Name: "t1"})
	m := g.MAC().Bytes()
	sent := append(append(m[:], 2, 0, 0, 0, 9, 9, 0x88, 0xb5), make([]byte, 46)...)
	p.send(sent)
	if got, err := g.Receive(t.Context()); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("the guest received %x, %v", got, err)
	}
	back := bytes.Clone(sent)
	copy(back, sent[6:12])
	copy(back[6:], sent[:6])
	if err := g.Send(back); err != nil {
		t.Fatal(err)
	}
	<-p.came
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.out) != 1 || !bytes.Equal(p.out[0], back) {
		t.Errorf("the device was given %x", p.out)
	}
}

func TestTheUnderlayCanBeReplacedByAnImporter(t *testing.T) {
	n := vteptest.NewNetwork()
	cfg := n.Config(netip.MustParseAddr("10.9.0.1"))
	open := cfg.OpenUnderlay
	var asked vtep.UnderlayConfig
	cfg.OpenUnderlay = func(c vtep.UnderlayConfig) (vtep.Underlay, error) {
		asked = c
		return open(c)
	}
	cfg.Port = 8472
	h := n.NewHost(t, cfg)
	if asked.Local != h.Local() || asked.Port != 8472 {
		t.Errorf("opened with %+v", asked)
	}
	if err := overlay(context.Background(), cfg); err == nil || !strings.Contains(err.Error(), "10.9.0.1:8472") {
		t.Errorf("a second VTEP at the same address: %v", err)
	}
}
