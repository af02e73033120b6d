// Runs chosen cases of versitygw's integration suite against an S3 endpoint: its own command runs each in a process of its
// own, under the same bucket names every time, or all of them, which ends at the first one that panics.
//
//	versitygw-cases                               prints the names of all cases
//	versitygw-cases ENDPOINT ACCESS_KEY SECRET    runs the cases whose names are on standard input
//
// Of every case there is one line on standard output as soon as it has ended: its name, a tab, and nothing or why it failed.
package main

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/versity/versitygw/tests/integration"
)

// How many cases run at once.
const concurrency = 8

// How long a case may take.
const patience = 40 * time.Second

// Some cases give up their own requests before they have read the answers, and may be too late with that or not. So
// often they are tried again.
const triesMax = 10

// Cases that look at all buckets there are, so they run before the others, one at a time.
const alonePrefix = "ListBuckets_"

func main() {
	cases := integration.GetIntTests()
	if len(os.Args) == 1 {
		names := make([]string, 0, len(cases))
		for name := range cases {
			names = append(names, name)
		}
		slices.Sort(names)
		fmt.Println(strings.Join(names, "\n"))
		return
	}
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: versitygw-cases [ENDPOINT ACCESS_KEY SECRET]")
		os.Exit(2)
	}

	var alone, others []string
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		name := lines.Text()
		if _, found := cases[name]; !found {
			fmt.Fprintln(os.Stderr, "no such case:", name)
			os.Exit(2)
		}
		if strings.HasPrefix(name, alonePrefix) {
			alone = append(alone, name)
		} else {
			others = append(others, name)
		}
	}

	// The suite prints what it does; this program's output is its results.
	results := os.Stdout
	silence, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Stdout = silence

	site := integration.NewS3Conf(
		integration.WithEndpoint(os.Args[1]),
		integration.WithAccess(os.Args[2]),
		integration.WithSecret(os.Args[3]),
		integration.WithRegion("us-east-1"),
		integration.WithVersioningEnabled(),
	)
	var lock sync.Mutex
	run := func(name string) {
		reason := ended(cases[name], site)
		for range triesMax {
			if !strings.Contains(reason, "context canceled") {
				break
			}
			reason = ended(cases[name], site)
		}
		lock.Lock()
		defer lock.Unlock()
		fmt.Fprintf(results, "%s\t%s\n", name, reason)
	}
	for _, name := range alone {
		run(name)
	}
	queue := make(chan string)
	var workers sync.WaitGroup
	for range concurrency {
		workers.Go(func() {
			for name := range queue {
				run(name)
			}
		})
	}
	for _, name := range others {
		queue <- name
	}
	close(queue)
	workers.Wait()
}

// Why the case failed, in one line; empty if it passed.
func ended(test integration.IntTest, site *integration.S3Conf) string {
	end := make(chan string, 1)
	go func() {
		defer func() {
			if panicked := recover(); panicked != nil {
				end <- fmt.Sprintf("panicked: %v", panicked)
			}
		}()
		if err := test(site); err != nil {
			end <- strings.Join(strings.Fields("failed: "+err.Error()), " ")
			return
		}
		end <- ""
	}()
	select {
	case reason := <-end:
		return reason
	case <-time.After(patience):
		return fmt.Sprintf("has not ended after %v", patience)
	}
}
