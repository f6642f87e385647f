//! The monitor: who is waited for, and when batches are dropped.

use weft_core::cpu::Cpu;
use weft_core::geometry::{FourLevels, Geometry};
use weft_core::reclaim::{Batch, Paid, Reclaim};
use weft_core::sync::Backend;

use crate::support::{Machine, erased, live, on_machine, online};

on_every_geometry!(
    without_cpus_nothing_waits,
    a_batch_retired_during_a_grace_period_waits_for_the_next,
    a_cpu_that_comes_online_is_not_waited_for,
    a_cpu_that_goes_offline_is_no_longer_waited_for,
    a_batch_is_freed_as_a_whole,
    what_is_appended_comes_out_first,
);

/// Retires a batch of new frames.
fn retire<G: Geometry>(machine: &Machine<G>, frames: usize) {
    let mut batch = Batch::new(machine);
    for _ in 0..frames {
        batch.push(erased(machine));
    }
    // SAFETY: the frames were never mapped.
    let batch = unsafe { Paid::new(batch) };
    // SAFETY: the batch and the reclamation are those of this machine.
    unsafe { machine.reclaim().retire(machine, batch) };
}

fn without_cpus_nothing_waits<G: Geometry>() {
    on_machine::<G>(|machine| {
        retire(machine, 2);
        assert_eq!(live(machine), 0, "there is no CPU to wait for");
    });
}

fn a_batch_retired_during_a_grace_period_waits_for_the_next<G: Geometry>() {
    on_machine::<G>(|machine| {
        let (mut first, mut second) = (online(machine, 0), online(machine, 1));
        retire(machine, 1);
        first.quiescent();
        retire(machine, 1);
        second.quiescent();
        assert_eq!(live(machine), 1, "the first batch is free, the second one waits");
        second.quiescent();
        assert_eq!(live(machine), 1, "for both CPUs");
        first.quiescent();
        assert_eq!(live(machine), 0);
    });
}

fn a_cpu_that_comes_online_is_not_waited_for<G: Geometry>() {
    on_machine::<G>(|machine| {
        let mut first = online(machine, 0);
        retire(machine, 1);
        let _second = online(machine, 1);
        first.quiescent();
        assert_eq!(live(machine), 0, "the second CPU has no section from before");
    });
}

fn a_cpu_that_goes_offline_is_no_longer_waited_for<G: Geometry>() {
    on_machine::<G>(|machine| {
        let (mut first, second) = (online(machine, 0), online(machine, 63));
        retire(machine, 1);
        first.quiescent();
        retire(machine, 1);
        drop(second);
        assert_eq!(live(machine), 1, "a CPU that went offline is waited for");
        first.quiescent();
        assert_eq!(live(machine), 0);
    });
}

fn a_batch_is_freed_as_a_whole<G: Geometry>() {
    on_machine::<G>(|machine| {
        let mut cpu = online(machine, 0);
        retire(machine, 3);
        retire(machine, 2);
        retire(machine, 4);
        assert_eq!(live(machine), 9);
        cpu.quiescent();
        assert_eq!(live(machine), 6, "what came later waits for the next grace period");
        cpu.quiescent();
        assert_eq!(live(machine), 0, "a batch is not freed as a whole");
    });
}

fn what_is_appended_comes_out_first<G: Geometry>() {
    on_machine::<G>(|machine| {
        for (front, back) in (0..4).flat_map(|front| (0..4).map(move |back| (front, back))) {
            let mut places = Vec::new();
            let [mut first, mut second] = [front, back].map(|frames| {
                let mut batch = Batch::new(machine);
                for _ in 0..frames {
                    let erased = erased(machine);
                    places.push(erased.paddr());
                    batch.push(erased);
                }
                assert_eq!(batch.is_empty(), frames == 0);
                batch
            });
            second.append(std::mem::replace(&mut first, Batch::new(machine)));
            // Each batch is last in, first out.
            places[..front].reverse();
            places[front..].reverse();
            let came_out: Vec<_> = std::iter::from_fn(|| {
                let erased = second.pop()?;
                let place = erased.paddr();
                erased.give_up();
                Some(place)
            })
            .collect();
            assert_eq!(came_out, places, "{front} appended to {back}");
            assert!(first.is_empty() && second.is_empty());
            assert_eq!(live(machine), 0);
        }
    });
}

/// What happens on one of the CPUs.
#[derive(Clone, Copy, Debug)]
enum Step {
    Quiescent(usize),
    ComeOrGo(usize),
    Retire,
}

/// What the monitor promises, written down without batches. A round is over once every CPU that
/// was online at its start has passed: announced a quiescent state or gone offline. A frame must
/// wait for one round, since sections from before it may see the frame; and it need not wait for
/// more than two, since the period that runs when it is retired is over after the first.
struct Oracle {
    online: u64,
    frames: Vec<Waiting>,
}

struct Waiting {
    first_round: u64,
    second_round: u64,
}

const CPUS: usize = 3;

impl Oracle {
    fn retire(&mut self) {
        self.frames.push(Waiting { first_round: self.online, second_round: self.online });
    }

    fn passed(&mut self, cpu: usize) {
        for frame in &mut self.frames {
            if frame.first_round == 0 {
                frame.second_round &= !(1 << cpu);
                continue;
            }
            frame.first_round &= !(1 << cpu);
            if frame.first_round == 0 {
                frame.second_round = self.online;
            }
        }
    }

    /// The least and the greatest number of frames that may be in use.
    fn bounds(&self) -> (u64, u64) {
        let count = |waits: fn(&Waiting) -> bool| self.frames.iter().filter(|f| waits(f)).count();
        let least = count(|frame| frame.first_round != 0);
        let most = count(|frame| frame.first_round != 0 || frame.second_round != 0);
        (least as u64, most as u64)
    }
}

/// Every sequence of `LENGTH` steps, the first two CPUs being online at its start.
#[test]
fn every_order_of_steps_frees_neither_too_early_nor_too_late() {
    const LENGTH: u32 = 5;
    let mut steps = vec![Step::Retire];
    steps.extend((0..CPUS).flat_map(|cpu| [Step::Quiescent(cpu), Step::ComeOrGo(cpu)]));
    on_machine::<FourLevels>(|machine| {
        let mut situations = (false, false);
        for number in 0..steps.len().pow(LENGTH) {
            let sequence: Vec<Step> = (0..LENGTH)
                .map(|place| steps[number / steps.len().pow(place) % steps.len()])
                .collect();
            let mut cpus = [Some(online(machine, 0)), Some(online(machine, 1)), None];
            let mut oracle = Oracle { online: 0b11, frames: Vec::new() };
            for &step in &sequence {
                take_step(machine, step, &mut cpus, &mut oracle);
                let (least, most) = oracle.bounds();
                let live = live(machine);
                assert!(live >= least, "a frame is freed too early in {sequence:?}");
                assert!(live <= most, "a frame is kept too long in {sequence:?}");
                situations.0 |= least > 0;
                situations.1 |= most < oracle.frames.len() as u64;
            }
            drop(cpus);
            assert_eq!(live(machine), 0, "a frame is never freed after {sequence:?}");
        }
        assert_eq!(situations, (true, true), "frames had to wait, and had to be freed");
    });
}

fn take_step(
    machine: &Machine<FourLevels>,
    step: Step,
    cpus: &mut [Option<Cpu<Machine<FourLevels>>>; CPUS],
    oracle: &mut Oracle,
) {
    match step {
        Step::Retire => {
            retire(machine, 1);
            oracle.retire();
        }
        Step::Quiescent(cpu) => {
            if let Some(running) = &mut cpus[cpu] {
                running.quiescent();
                oracle.passed(cpu);
            }
        }
        Step::ComeOrGo(cpu) if cpus[cpu].is_some() => {
            cpus[cpu] = None;
            oracle.online &= !(1 << cpu);
            oracle.passed(cpu);
        }
        Step::ComeOrGo(cpu) => {
            cpus[cpu] = Some(online(machine, cpu as u32));
            oracle.online |= 1 << cpu;
        }
    }
}
