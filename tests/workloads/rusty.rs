//! Rust: a trait object, generic code, closures, recursion, a boxed closure in a thread.
//! Chains: rusty::main; rusty::run_traits|run_closures|run_recursion; ...; rusty::spin.
//! Thread start; ...; rusty::in_thread; rusty::spin.
use std::hint::black_box;
use std::time::{Duration, Instant};

trait Animal {
    fn speak(&self, n: u64) -> u64;
}

struct Dog(u64);
struct Cat(u64);

#[inline(never)]
fn spin(steps: u64) -> u64 {
    let mut sum = 0u64;
    for i in 0..steps {
        sum = black_box(sum.wrapping_add(i));
    }
    sum
}

impl Animal for Dog {
    #[inline(never)]
    fn speak(&self, n: u64) -> u64 {
        black_box(spin(n)) + self.0
    }
}

impl Animal for Cat {
    #[inline(never)]
    fn speak(&self, n: u64) -> u64 {
        black_box(spin(n + 1)) ^ self.0
    }
}

#[inline(never)]
fn run_traits(animals: &[Box<dyn Animal>]) -> u64 {
    animals.iter().fold(0, |sum, animal| sum ^ animal.speak(200_000))
}

#[inline(never)]
fn apply<F: Fn(u64) -> u64>(action: F, times: u64) -> u64 {
    (0..times).fold(1, |sum, i| black_box(action(sum ^ i)))
}

#[inline(never)]
fn run_closures(bias: u64) -> u64 {
    black_box(apply(|value| spin(20_000).wrapping_add(value ^ bias), 20))
}

#[inline(never)]
fn run_recursion(depth: u64) -> u64 {
    if depth == 0 {
        return black_box(spin(200_000));
    }
    black_box(run_recursion(depth - 1)) + 1
}

#[inline(never)]
fn in_thread(until: Instant) -> u64 {
    let mut sum = 0u64;
    while Instant::now() < until {
        sum ^= black_box(spin(200_000));
    }
    sum
}

fn main() {
    let seconds: f64 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1.0);
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let animals: Vec<Box<dyn Animal>> = vec![Box::new(Dog(3)), Box::new(Cat(4))];
    let thread = std::thread::spawn(move || in_thread(until));
    let mut sum = 0u64;
    while Instant::now() < until {
        sum ^= run_traits(&animals);
        sum ^= run_closures(sum);
        sum ^= run_recursion(30);
    }
    black_box(sum ^ thread.join().unwrap());
}
