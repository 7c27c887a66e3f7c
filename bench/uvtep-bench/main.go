// Command uvtep-bench measures the fast path in memory and prints a table, or
// JSON. It is what make bench runs.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"time"

	"github.com/uvtep/uvtep/bench"
)

func main() {
	each := flag.Duration("for", time.Second, "how long each scenario is measured")
	only := flag.String("run", "", "only scenarios whose id matches this regular expression")
	asJSON := flag.Bool("json", false, "print JSON")
	flag.Parse()
	which, err := regexp.Compile(*only)
	if err != nil || flag.NArg() > 0 || *each <= 0 {
		fmt.Fprintln(os.Stderr, "usage: uvtep-bench [-for 1s] [-run REGEXP] [-json]")
		os.Exit(2)
	}
	if err := run(*each, which, *asJSON); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(each time.Duration, which *regexp.Regexp, asJSON bool) error {
	results := []bench.Result{}
	if !asJSON {
		if err := bench.WriteHead(os.Stdout); err != nil {
			return err
		}
	}
	for _, s := range bench.Scenarios() {
		if !which.MatchString(s.ID()) {
			continue
		}
		r, err := s.Measure(each)
		if err != nil {
			return err
		}
		results = append(results, r)
		if !asJSON {
			if err := bench.WriteRow(os.Stdout, r); err != nil {
				return err
			}
		}
	}
	if asJSON {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		return e.Encode(results)
	}
	return nil
}
