// Package floors keeps the house in order: which package may import which, and
// what library code must not do. It has nothing but tests.
package floors

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"os"
	"path"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/tools/go/packages"
)

const module = "github.com/uvtep/uvtep/"

// room is a package, with all packages below it, and where in the house it is.
type room struct {
	path  string   // below the module
	floor int      // imports go to lower floors only
	same  []string // rooms of its own floor that it may use all the same
	never []string // packages that it must not reach, not even through others
}

// What a library that is embedded must not drag in: formats, servers, metrics,
// and what belongs to a program's main.
var programs = []string{
	"flag", "net/http", "os/signal",
	"github.com/goccy/go-yaml", "go.yaml.in", "gopkg.in",
	"github.com/prometheus", "github.com/spf13", "github.com/danielgtaylor/huma",
}

// house is the table of the architecture. A package that is not in it, nor
// below one that is, fails the test: give it a floor here.
var house = []room{
	{path: "encap", floor: 0, never: append([]string{"net", "time", "golang.org/x"}, programs...)},
	// golang.org/x/sys/cpu tells which instructions there are, for checksums; it
	// is no way to the operating system, though it reaches os and with it time.
	{path: "internal/frame", floor: 0, never: append([]string{"net", "golang.org/x/net", "golang.org/x/sys/unix", "golang.org/x/sys/windows"}, programs...)},
	{path: "internal/offload", floor: 0, same: []string{"internal/frame"}, never: append([]string{"net", "golang.org/x/net", "golang.org/x/sys/unix", "golang.org/x/sys/windows"}, programs...)},
	{path: "fdb", floor: 1, never: append([]string{module, "net", "time"}, programs...)},
	{path: "dhcpd", floor: 1, never: append([]string{module}, programs...)},
	{path: "internal/guard", floor: 1, never: append([]string{module + "fdb", module + "dhcpd"}, programs...)},
	{path: "internal/netns", floor: 1, never: append([]string{module}, programs...)},
	{path: "internal/mmsg", floor: 1, never: append([]string{module, "net"}, programs...)},
	{path: "internal/tap", floor: 2, never: append([]string{module + "fdb", module + "dhcpd", module + "encap", module + "internal/underlay"}, programs...)},
	{path: "internal/nic", floor: 2, same: []string{"internal/tap"}, never: append([]string{module + "fdb", module + "dhcpd", module + "encap", module + "internal/underlay"}, programs...)},
	{path: "internal/stream", floor: 2, same: []string{"internal/tap"}, never: append([]string{module + "fdb", module + "dhcpd", module + "encap", module + "internal/underlay"}, programs...)},
	{path: "internal/pair", floor: 2, same: []string{"internal/tap"}, never: append([]string{module + "fdb", module + "dhcpd", module + "encap", module + "internal/underlay"}, programs...)},
	{path: "internal/underlay", floor: 2, never: append([]string{module + "fdb", module + "dhcpd", module + "encap", module + "internal/tap"}, programs...)},
	{path: "vtep", floor: 3, never: programs},
	{path: "internal/config", floor: 4, same: daemon},
	{path: "internal/control", floor: 4, same: daemon},
	{path: "internal/observe", floor: 4, same: daemon},
	{path: "internal/web", floor: 4, same: daemon},
	{path: "internal/lab", floor: 4, same: daemon},
	{path: "internal/daemon", floor: 4, same: daemon},
	{path: "bench", floor: 4, never: []string{module + "internal/config", module + "internal/control", module + "internal/daemon"}},
	{path: "cmd", floor: 5},

	// Beside the house: tools of the tests, which nothing else imports.
	{path: "internal/floors", floor: 5},
	{path: "internal/dhcpcheck", floor: 5},
	{path: "internal/conformance", floor: 5},
	{path: "internal/nettest", floor: 0},
	{path: "internal/verdict", floor: 0},
	{path: "internal/testreport", floor: 0, never: []string{module}},
}

var daemon = []string{"internal/config", "internal/control", "internal/observe", "internal/web", "internal/lab", "internal/daemon"}

// under tells whether p is the package dir or below it.
func under(p, dir string) bool {
	dir = strings.TrimSuffix(dir, "/")
	return p == dir || strings.HasPrefix(p, dir+"/")
}

func roomOf(p string) (room, bool) {
	for _, r := range house {
		if under(p, module+r.path) {
			return r, true
		}
	}
	return room{}, false
}

// forTests tells whether a package is there for tests: a double beside its seam.
func forTests(p string) bool { return strings.HasSuffix(path.Base(p), "test") }

// load reads the module's packages as they are on a system.
func load(t *testing.T, goos string, mode packages.LoadMode) []*packages.Package {
	t.Helper()
	all, err := packages.Load(&packages.Config{
		Mode: mode | packages.NeedName | packages.NeedFiles | packages.NeedImports,
		Dir:  "../..",
		Env:  append(os.Environ(), "GOOS="+goos, "CGO_ENABLED=0"),
	}, "./...")
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("only %d packages were found", len(all))
	}
	for _, p := range all {
		for _, e := range p.Errors {
			t.Fatalf("%s on %s: %v", p.PkgPath, goos, e)
		}
	}
	return all
}

// faults are the imports of p that go up, or to where p must not go.
func faults(p *packages.Package) (found []string) {
	r, ok := roomOf(p.PkgPath)
	if !ok {
		return []string{fmt.Sprintf("%s has no floor: give it one in the table of this test", p.PkgPath)}
	}
	for _, i := range p.Imports {
		if i.PkgPath == "log" {
			found = append(found, p.PkgPath+" imports log: take a *slog.Logger")
		}
		if !under(i.PkgPath, module) {
			continue
		}
		to, ok := roomOf(i.PkgPath)
		switch {
		case !ok || to.path == r.path:
		case to.floor > r.floor:
			found = append(found, fmt.Sprintf("%s (floor %d) imports %s (floor %d): imports only go down", p.PkgPath, r.floor, i.PkgPath, to.floor))
		case to.floor == r.floor && !slices.Contains(r.same, to.path):
			found = append(found, fmt.Sprintf("%s imports %s, of its own floor", p.PkgPath, i.PkgPath))
		}
		if forTests(i.PkgPath) && !forTests(p.PkgPath) {
			found = append(found, fmt.Sprintf("%s imports %s outside of a test", p.PkgPath, i.PkgPath))
		}
	}
	if !forTests(p.PkgPath) {
		found = append(found, forbidden(p, r, p.PkgPath, map[string]bool{})...)
	}
	return found
}

// forbidden follows the imports of p, which it came to by way. The standard
// library's own are not followed: what net/netip needs is its own affair.
func forbidden(p *packages.Package, r room, way string, reached map[string]bool) (found []string) {
	for _, i := range p.Imports {
		if reached[i.PkgPath] {
			continue
		}
		reached[i.PkgPath] = true
		at := way + " → " + i.PkgPath
		own := under(i.PkgPath, module+r.path)
		for _, n := range r.never {
			// A package of the standard library is meant by itself: net is not
			// net/netip. Elsewhere, and here, all below is meant as well.
			std := !strings.Contains(strings.SplitN(n, "/", 2)[0], ".")
			if i.PkgPath == n || !std && !own && under(i.PkgPath, n) {
				found = append(found, "forbidden: "+at)
			}
		}
		if strings.Contains(strings.SplitN(i.PkgPath, "/", 2)[0], ".") {
			found = append(found, forbidden(i, r, at, reached)...)
		}
	}
	return found
}

func TestImportsOnlyGoDown(t *testing.T) {
	for _, goos := range []string{"linux", "darwin", "windows"} {
		for _, p := range load(t, goos, packages.NeedDeps) {
			for _, f := range faults(p) {
				t.Errorf("on %s: %s", goos, f)
			}
		}
	}
}

// The rules are tried on packages that break them, so that they can be trusted
// where nothing is found.
func TestAnImportThatGoesUpIsFound(t *testing.T) {
	pkg := func(p string, imports ...*packages.Package) *packages.Package {
		q := &packages.Package{PkgPath: p, Imports: map[string]*packages.Package{}}
		for _, i := range imports {
			q.Imports[i.PkgPath] = i
		}
		return q
	}
	yaml := pkg("github.com/goccy/go-yaml/parser")
	for _, c := range []struct {
		what string
		pkg  *packages.Package
		want int
	}{
		{"down", pkg(module+"vtep", pkg(module+"fdb"), pkg("net/netip")), 0},
		{"up", pkg(module+"fdb", pkg(module+"vtep")), 2}, // and fdb imports nothing of ours
		{"up from below a room", pkg(module+"vtep/vteptest", pkg(module+"internal/daemon")), 1},
		{"sideways", pkg(module+"internal/tap", pkg(module+"internal/underlay")), 2},
		{"sideways back", pkg(module+"internal/underlay", pkg(module+"internal/tap")), 2},
		{"sideways where that is allowed", pkg(module+"internal/daemon", pkg(module+"internal/config")), 0},
		{"within a room", pkg(module+"internal/lab", pkg(module+"internal/lab/guest")), 0},
		{"a flag in a library", pkg(module+"vtep", pkg("flag")), 1},
		{"the global logger", pkg(module+"internal/lab", pkg("log")), 1},
		{"YAML through another's package", pkg(module+"vtep", pkg("example.org/x", yaml)), 1},
		{"YAML through the room below", pkg(module+"vtep", pkg(module+"dhcpd", yaml)), 1},
		{"YAML where it belongs", pkg(module+"internal/config", yaml), 0},
		{"a socket in a pure package", pkg(module+"encap", pkg("net")), 1},
		{"a double outside of a test", pkg(module+"vtep", pkg(module+"internal/tap/taptest")), 1},
		{"a double in a double", pkg(module+"vtep/vteptest", pkg(module+"internal/tap/taptest")), 0},
		{"a package without a floor", pkg(module + "internal/attic"), 1},
	} {
		if got := faults(c.pkg); len(got) != c.want {
			t.Errorf("%s: %d faults, want %d: %q", c.what, len(got), c.want, got)
		}
	}
}

// The table of docs/architecture.md says of every package what house says, and
// its text names those that are beside the house.
func TestTheDocumentKnowsTheFloorOfEveryPackage(t *testing.T) {
	text, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	section := regexp.MustCompile(`(?s)\n## Floors\n(.*?)\n## `).FindSubmatch(text)
	if section == nil {
		t.Fatal("there is no section Floors")
	}
	floorOf := map[string]int{}
	name := regexp.MustCompile("`([a-z0-9/]+)`")
	for _, row := range regexp.MustCompile(`(?m)^\| (\d) [a-zA-Z0-9]+ \| ([^|]+) \|`).FindAllSubmatch(section[1], -1) {
		floor, _ := strconv.Atoi(string(row[1]))
		for _, p := range name.FindAllSubmatch(row[2], -1) {
			floorOf[string(p[1])] = floor
		}
	}
	for p, floor := range floorOf {
		if r, ok := roomOf(module + p); !ok || r.floor != floor {
			t.Errorf("the document has %s on floor %d, this test's table has %+v", p, floor, r)
		}
	}
	for _, p := range load(t, runtime.GOOS, 0) {
		p := strings.TrimPrefix(p.PkgPath, module)
		under := func(dir string) bool { return under(p, dir) }
		if !slices.ContainsFunc(slices.Collect(maps.Keys(floorOf)), under) && !bytes.Contains(section[1], []byte("`"+p+"`")) {
			t.Errorf("the document does not have %s", p)
		}
	}
}

func TestNoPackageIsNamedForNothing(t *testing.T) {
	for _, p := range load(t, runtime.GOOS, 0) {
		for _, part := range strings.Split(strings.TrimPrefix(p.PkgPath, module), "/") {
			if slices.Contains([]string{"util", "utils", "common", "types", "pkg", "misc", "helpers"}, part) {
				t.Errorf("%s: call it by what it holds", p.PkgPath)
			}
		}
		if p.Name != "main" && p.Name != path.Base(p.PkgPath) {
			t.Errorf("the package in %s is called %s", p.PkgPath, p.Name)
		}
	}
}

// Nothing is registered behind the reader's back, and two of anything can live
// in one process: no init, no variable of a package that changes.
func TestPackagesHaveNoStateOfTheirOwn(t *testing.T) {
	for _, p := range load(t, runtime.GOOS, packages.NeedSyntax|packages.NeedTypes|packages.NeedTypesInfo) {
		if forTests(p.PkgPath) {
			continue
		}
		for _, f := range p.Syntax {
			ast.Inspect(f, func(n ast.Node) bool {
				for _, what := range state(p.TypesInfo, n) {
					t.Errorf("%v: %s", p.Fset.Position(n.Pos()), what)
				}
				return true
			})
		}
	}
}

func TestStateOfAPackageIsFound(t *testing.T) {
	const src = `package p
import ("errors"; "sync"; "sync/atomic"; "os")
var Err = errors.New("an error")
var table = [...]int{1, 2, 3}
var pool sync.Pool
var n int            // changed below
var m = map[int]int{}
var s struct{ a [3]int }
var once sync.Once   // 1
var hits atomic.Int64 // 2
func init() {}       // 3
func f(t struct{ n int }) {
	n++              // 4
	n = 1            // 5
	m[2] += table[1] // 6
	(s.a[1]), t.n = 3, 3 // 7
	os.Args = nil    // 8
	n := 1
	n, k := 2, 3
	n = k
	_ = n
	t.n++
}
func (x *T) init() { *x = T{} }
type T struct{}
`
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "p.go", src, 0)
	if err != nil {
		t.Fatal(err)
	}
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}}
	if _, err := (&types.Config{Importer: importer.Default()}).Check("p", fset, []*ast.File{f}, info); err != nil {
		t.Fatal(err)
	}
	var found []string
	ast.Inspect(f, func(n ast.Node) bool {
		found = append(found, state(info, n)...)
		return true
	})
	if len(found) != 8 {
		t.Errorf("%d were found, want 8: %q", len(found), found)
	}
}

// state says what n does to variables of a package.
func state(info *types.Info, n ast.Node) (found []string) {
	changed := func(e ast.Expr) {
		if v := variable(info, e); v != nil {
			found = append(found, "the package's variable "+v.Name()+" is changed")
		}
	}
	switch n := n.(type) {
	case *ast.FuncDecl:
		if n.Recv == nil && n.Name.Name == "init" {
			found = append(found, "an init function")
		}
	case *ast.AssignStmt:
		if n.Tok != token.DEFINE {
			for _, e := range n.Lhs {
				changed(e)
			}
		}
	case *ast.IncDecStmt:
		changed(n.X)
	case *ast.ValueSpec:
		for _, name := range n.Names {
			v, ok := info.Defs[name].(*types.Var)
			if !ok || v.Parent() != v.Pkg().Scope() {
				continue
			}
			// A sync.Pool holds nothing that anybody could see.
			t, ok := v.Type().(*types.Named)
			if ok && t.Obj().Pkg() != nil && strings.HasPrefix(t.Obj().Pkg().Path(), "sync") && t.Obj().Name() != "Pool" {
				found = append(found, "the package's variable "+v.Name()+" is a "+t.String())
			}
		}
	}
	return found
}

// variable is the package's variable that e is, or is a part of; nil if there is none.
func variable(info *types.Info, e ast.Expr) *types.Var {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			if v, ok := info.Uses[x].(*types.Var); ok && !v.IsField() && v.Pkg() != nil && v.Parent() == v.Pkg().Scope() {
				return v
			}
			return nil
		case *ast.SelectorExpr:
			if _, isPackage := info.Uses[firstIdent(x.X)].(*types.PkgName); isPackage {
				e = x.Sel
			} else {
				e = x.X
			}
		case *ast.IndexExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return nil
		}
	}
}

func firstIdent(e ast.Expr) *ast.Ident {
	i, _ := e.(*ast.Ident)
	return i
}

// The pure floors and the forwarding table start no goroutines.
func TestTheLowestFloorsStartNoGoroutines(t *testing.T) {
	for _, p := range load(t, runtime.GOOS, packages.NeedSyntax) {
		if !slices.ContainsFunc([]string{"encap", "internal/frame", "internal/offload", "fdb"}, func(d string) bool { return under(p.PkgPath, module+d) }) {
			continue
		}
		for _, f := range p.Syntax {
			ast.Inspect(f, func(n ast.Node) bool {
				if _, ok := n.(*ast.GoStmt); ok {
					t.Errorf("%v: a goroutine", p.Fset.Position(n.Pos()))
				}
				return true
			})
		}
	}
}
