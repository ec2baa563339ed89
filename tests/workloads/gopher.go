// Go: goroutines, recursion that grows its stack, interface calls, closures, the garbage collector now and then.
// Chains: runtime.goexit; runtime.main; main.main; main.recurse...; main.spin.
// runtime.goexit; main.worker; main.(*square).area; main.spin.
package main

import (
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

type shape interface{ area(n int) int }

type square struct{ side int }
type circle struct{ radius int }

var sink atomic.Int64

//go:noinline
func spin(n int) int {
	sum := 0
	for i := 0; i < n; i++ {
		sum ^= i * 7
	}
	return sum
}

//go:noinline
func (s *square) area(n int) int { return spin(n) + s.side }

//go:noinline
func (c *circle) area(n int) int { return spin(n+1) - c.radius }

//go:noinline
func recurse(depth int) int {
	if depth == 0 {
		return spin(300000)
	}
	var ballast [16]int
	ballast[depth%16] = depth
	return recurse(depth-1) + ballast[(depth+1)%16]
}

func worker(stop *atomic.Bool, done *sync.WaitGroup) {
	defer done.Done()
	shapes := []shape{&square{2}, &circle{3}}
	for i := 0; !stop.Load(); i++ {
		sink.Add(int64(shapes[i%2].area(200000)))
	}
}

//go:noinline
func allocate() []byte { return make([]byte, 1<<16) }

func main() {
	seconds := 1.0
	if len(os.Args) > 1 {
		if parsed, err := strconv.ParseFloat(os.Args[1], 64); err == nil {
			seconds = parsed
		}
	}
	var stop atomic.Bool
	var done sync.WaitGroup
	done.Add(1)
	go worker(&stop, &done)
	until := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	for time.Now().Before(until) {
		for i := 0; i < 20; i++ {
			sink.Add(int64(recurse(100)))
		}
		sink.Add(int64(len(allocate())))
	}
	stop.Store(true)
	done.Wait()
}
