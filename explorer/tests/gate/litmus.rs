//! The litmus catalogue: the classic shapes, each with what is known about it.
//!
//! `genmc` is the number of executions that GenMC (Kokologiannakis, Vafeiadis, CAV'21) counts under
//! its RC11 model, an independent implementation. `weak` is the outcome that the shape
//! is famous for (registers in thread order, then final memory), and `verdict` whether RC11 allows
//! it. Z6.U is the one known difference: the model of PLDI'17 has 24 executions, on which the
//! engine and the enumerator in `axiomatic` agree, and GenMC counts 22.

use super::program::Program;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Never,
    Sometimes,
}

use Verdict::{Never, Sometimes};

pub(crate) struct Litmus {
    pub(crate) name: &'static str,
    pub(crate) genmc: u64,
    weak: &'static str,
    pub(crate) verdict: Verdict,
    text: &'static str,
}

impl Litmus {
    pub(crate) fn program(&self) -> Program {
        self.text.parse().expect("the catalogue is well-formed")
    }

    /// Whether an outcome is the weak one. `_` stands for any value.
    pub(crate) fn is_weak(&self, registers: &[u64], memory: &[u64]) -> bool {
        let matches = |pattern: &str, values: &[u64]| {
            let parts = pattern.split(',').map(str::trim).filter(|part| !part.is_empty());
            parts.zip(values).all(|(part, value)| part == "_" || part == value.to_string())
        };
        let (for_registers, for_memory) = self.weak.split_once('/').unwrap_or((self.weak, ""));
        matches(for_registers, registers) && matches(for_memory, memory)
    }
}

/// The executions of Z6.U under the model of PLDI'17.
pub(crate) const Z6U_EXECUTIONS: u64 = 24;

#[rustfmt::skip]
pub(crate) const CATALOGUE: &[Litmus] = &[
    Litmus { name: "MP rlx/rlx", genmc: 4, weak: "1,0", verdict: Sometimes, text: "x = 1 rlx; y = 1 rlx || y rlx; x rlx" },
    Litmus { name: "MP rel/rlx", genmc: 4, weak: "1,0", verdict: Sometimes, text: "x = 1 rlx; y = 1 rel || y rlx; x rlx" },
    Litmus { name: "MP rlx/acq", genmc: 4, weak: "1,0", verdict: Sometimes, text: "x = 1 rlx; y = 1 rlx || y acq; x rlx" },
    Litmus { name: "MP rel/acq", genmc: 3, weak: "1,0", verdict: Never, text: "x = 1 rlx; y = 1 rel || y acq; x rlx" },
    Litmus { name: "MP sc/sc", genmc: 3, weak: "1,0", verdict: Never, text: "x = 1 rlx; y = 1 sc || y sc; x rlx" },
    Litmus { name: "MP+fences Frel/Facq", genmc: 3, weak: "1,0", verdict: Never, text: "x = 1 rlx; fence rel; y = 1 rlx || y rlx; fence acq; x rlx" },
    Litmus { name: "MP+fences Fsc/Fsc", genmc: 3, weak: "1,0", verdict: Never, text: "x = 1 rlx; fence sc; y = 1 rlx || y rlx; fence sc; x rlx" },
    Litmus { name: "MP+fences Frel/acq", genmc: 3, weak: "1,0", verdict: Never, text: "x = 1 rlx; fence rel; y = 1 rlx || y acq; x rlx" },
    Litmus { name: "MP+fences rel/Facq", genmc: 3, weak: "1,0", verdict: Never, text: "x = 1 rlx; y = 1 rel || y rlx; fence acq; x rlx" },
    Litmus { name: "SB rlx/rlx", genmc: 4, weak: "0,0", verdict: Sometimes, text: "x = 1 rlx; y rlx || y = 1 rlx; x rlx" },
    Litmus { name: "SB rel/acq", genmc: 4, weak: "0,0", verdict: Sometimes, text: "x = 1 rel; y acq || y = 1 rel; x acq" },
    Litmus { name: "SB sc/sc", genmc: 3, weak: "0,0", verdict: Never, text: "x = 1 sc; y sc || y = 1 sc; x sc" },
    Litmus { name: "SB+fences Fsc/Fsc", genmc: 3, weak: "0,0", verdict: Never, text: "x = 1 rlx; fence sc; y rlx || y = 1 rlx; fence sc; x rlx" },
    Litmus { name: "SB+fences Fsc/none", genmc: 4, weak: "0,0", verdict: Sometimes, text: "x = 1 rlx; fence sc; y rlx || y = 1 rlx; x rlx" },
    Litmus { name: "SB+fences Fsc/sc-acc", genmc: 3, weak: "0,0", verdict: Never, text: "x = 1 rlx; fence sc; y rlx || y = 1 sc; x sc" },
    Litmus { name: "SB+fences Far/Far", genmc: 4, weak: "0,0", verdict: Sometimes, text: "x = 1 rlx; fence ar; y rlx || y = 1 rlx; fence ar; x rlx" },
    Litmus { name: "SB+xchg ar/rlx", genmc: 4, weak: "_,0,_,0", verdict: Sometimes, text: "swap x 1 ar; y rlx || swap y 1 ar; x rlx" },
    Litmus { name: "SB+xchg ar/acq", genmc: 4, weak: "_,0,_,0", verdict: Sometimes, text: "swap x 1 ar; y acq || swap y 1 ar; x acq" },
    Litmus { name: "SB+xchg sc/sc", genmc: 3, weak: "_,0,_,0", verdict: Never, text: "swap x 1 sc; y sc || swap y 1 sc; x sc" },
    Litmus { name: "SB+xchg sc/acq", genmc: 4, weak: "_,0,_,0", verdict: Sometimes, text: "swap x 1 sc; y acq || swap y 1 sc; x acq" },
    Litmus { name: "SB+rfi rlx", genmc: 4, weak: "1,0,1,0", verdict: Sometimes, text: "x = 1 rlx; x rlx; y rlx || y = 1 rlx; y rlx; x rlx" },
    Litmus { name: "SB+rfi sc", genmc: 3, weak: "1,0,1,0", verdict: Never, text: "x = 1 sc; x sc; y sc || y = 1 sc; y sc; x sc" },
    Litmus { name: "LB rlx/rlx", genmc: 3, weak: "1,1", verdict: Never, text: "x rlx; y = 1 rlx || y rlx; x = 1 rlx" },
    Litmus { name: "LB acq/rlx", genmc: 3, weak: "1,1", verdict: Never, text: "x acq; y = 1 rlx || y acq; x = 1 rlx" },
    Litmus { name: "LB rlx/rel", genmc: 3, weak: "1,1", verdict: Never, text: "x rlx; y = 1 rel || y rlx; x = 1 rel" },
    Litmus { name: "LB acq/rel", genmc: 3, weak: "1,1", verdict: Never, text: "x acq; y = 1 rel || y acq; x = 1 rel" },
    Litmus { name: "LB sc/sc", genmc: 3, weak: "1,1", verdict: Never, text: "x sc; y = 1 sc || y sc; x = 1 sc" },
    Litmus { name: "S rlx/rlx", genmc: 4, weak: "1 / 2,_", verdict: Sometimes, text: "x = 2 rlx; y = 1 rlx || y rlx; x = 1 rlx" },
    Litmus { name: "S rel/acq", genmc: 3, weak: "1 / 2,_", verdict: Never, text: "x = 2 rlx; y = 1 rel || y acq; x = 1 rlx" },
    Litmus { name: "S rel/rlx", genmc: 4, weak: "1 / 2,_", verdict: Sometimes, text: "x = 2 rlx; y = 1 rel || y rlx; x = 1 rlx" },
    Litmus { name: "R rlx", genmc: 4, weak: "0 / _,2", verdict: Sometimes, text: "x = 1 rlx; y = 1 rlx || y = 2 rlx; x rlx" },
    Litmus { name: "R rel/acq", genmc: 4, weak: "0 / _,2", verdict: Sometimes, text: "x = 1 rlx; y = 1 rel || y = 2 rel; x acq" },
    Litmus { name: "R sc", genmc: 3, weak: "0 / _,2", verdict: Never, text: "x = 1 sc; y = 1 sc || y = 2 sc; x sc" },
    Litmus { name: "R Fsc/Fsc", genmc: 3, weak: "0 / _,2", verdict: Never, text: "x = 1 rlx; fence sc; y = 1 rlx || y = 2 rlx; fence sc; x rlx" },
    Litmus { name: "2+2W rlx", genmc: 4, weak: "/ 1,1", verdict: Sometimes, text: "x = 1 rlx; y = 2 rlx || y = 1 rlx; x = 2 rlx" },
    Litmus { name: "2+2W rel", genmc: 4, weak: "/ 1,1", verdict: Sometimes, text: "x = 1 rel; y = 2 rel || y = 1 rel; x = 2 rel" },
    Litmus { name: "2+2W sc", genmc: 3, weak: "/ 1,1", verdict: Never, text: "x = 1 sc; y = 2 sc || y = 1 sc; x = 2 sc" },
    Litmus { name: "2+2W Fsc", genmc: 3, weak: "/ 1,1", verdict: Never, text: "x = 1 rlx; fence sc; y = 2 rlx || y = 1 rlx; fence sc; x = 2 rlx" },
    Litmus { name: "CoRR rlx", genmc: 3, weak: "1,0", verdict: Never, text: "x = 1 rlx || x rlx; x rlx" },
    Litmus { name: "CoRR2 rlx", genmc: 72, weak: "1,2,2,1", verdict: Never, text: "x = 1 rlx || x = 2 rlx || x rlx; x rlx || x rlx; x rlx" },
    Litmus { name: "CoWW rlx", genmc: 3, weak: "_ / 1", verdict: Never, text: "x = 1 rlx; x = 2 rlx || x rlx" },
    Litmus { name: "CoWR rlx", genmc: 3, weak: "0 / _", verdict: Never, text: "x = 1 rlx; x rlx || x = 2 rlx" },
    Litmus { name: "CoRW rlx", genmc: 3, weak: "1 / _", verdict: Never, text: "x rlx; x = 1 rlx || x = 2 rlx" },
    Litmus { name: "CoRW2 rlx", genmc: 3, weak: "2 / 2", verdict: Never, text: "x rlx; x = 1 rlx || x = 2 rlx" },
    Litmus { name: "WRC rlx", genmc: 8, weak: "1,1,0", verdict: Sometimes, text: "x = 1 rlx || x rlx; y = 1 rlx || y rlx; x rlx" },
    Litmus { name: "WRC rel/acq", genmc: 7, weak: "1,1,0", verdict: Never, text: "x = 1 rel || x acq; y = 1 rel || y acq; x rlx" },
    Litmus { name: "ISA2 rlx", genmc: 8, weak: "1,1,0", verdict: Sometimes, text: "x = 1 rlx; y = 1 rlx || y rlx; z = 1 rlx || z rlx; x rlx" },
    Litmus { name: "ISA2 rel/acq", genmc: 7, weak: "1,1,0", verdict: Never, text: "x = 1 rlx; y = 1 rel || y acq; z = 1 rel || z acq; x rlx" },
    Litmus { name: "IRIW rlx", genmc: 16, weak: "1,0,1,0", verdict: Sometimes, text: "x = 1 rlx || y = 1 rlx || x rlx; y rlx || y rlx; x rlx" },
    Litmus { name: "IRIW rel/acq", genmc: 16, weak: "1,0,1,0", verdict: Sometimes, text: "x = 1 rel || y = 1 rel || x acq; y acq || y acq; x acq" },
    Litmus { name: "IRIW sc", genmc: 15, weak: "1,0,1,0", verdict: Never, text: "x = 1 sc || y = 1 sc || x sc; y sc || y sc; x sc" },
    Litmus { name: "IRIW Fsc readers", genmc: 15, weak: "1,0,1,0", verdict: Never, text: "x = 1 rlx || y = 1 rlx || x rlx; fence sc; y rlx || y rlx; fence sc; x rlx" },
    Litmus { name: "RWC rel/acq", genmc: 8, weak: "1,0,0", verdict: Sometimes, text: "x = 1 rel || x acq; y acq || y = 1 rel; x acq" },
    Litmus { name: "RWC sc", genmc: 7, weak: "1,0,0", verdict: Never, text: "x = 1 sc || x sc; y sc || y = 1 sc; x sc" },
    Litmus { name: "RWC Fsc", genmc: 7, weak: "1,0,0", verdict: Never, text: "x = 1 rlx || x rlx; fence sc; y rlx || y = 1 rlx; fence sc; x rlx" },
    Litmus { name: "W+RWC Fsc", genmc: 7, weak: "1,0,0", verdict: Never, text: "x = 1 rlx; y = 1 rel || y acq; fence sc; z rlx || z = 1 rlx; fence sc; x rlx" },
    Litmus { name: "Z6.U", genmc: 22, weak: "1,3,0", verdict: Sometimes, text: "x = 1 sc; y = 1 rel || add y 1 sc; y rlx || y = 3 sc; x sc" },
    Litmus { name: "RelSeq same thread", genmc: 5, weak: "2,0", verdict: Sometimes, text: "x = 1 rlx; y = 1 rel; y = 2 rlx || y acq; x rlx" },
    Litmus { name: "RelSeq RMW", genmc: 9, weak: "1,2,0", verdict: Never, text: "x = 1 rlx; y = 1 rel || add y 1 rlx || y acq; x rlx" },
    Litmus { name: "RMW atomicity rlx", genmc: 2, weak: "0,0", verdict: Never, text: "add x 1 rlx || add x 1 rlx" },
    Litmus { name: "RMW+W rlx", genmc: 2, weak: "0 / 5", verdict: Sometimes, text: "add x 1 rlx || x = 5 rlx" },
    Litmus { name: "publish rel/acq", genmc: 3, weak: "1,0", verdict: Never, text: "x = 1 rlx; y = 1 rel || y acq; x rlx" },
    Litmus { name: "publish rlx/acq", genmc: 4, weak: "1,0", verdict: Sometimes, text: "x = 1 rlx; y = 1 rlx || y acq; x rlx" },
    Litmus { name: "handshake Fsc/Fsc", genmc: 3, weak: "0,0", verdict: Never, text: "x = 1 rel; fence sc; y acq || y = 1 rel; fence sc; x acq" },
    Litmus { name: "handshake Fsc/none", genmc: 4, weak: "0,0", verdict: Sometimes, text: "x = 1 rel; fence sc; y acq || y = 1 rel; x acq" },
    Litmus { name: "grace period Fsc/Fsc", genmc: 3, weak: "_,0,0", verdict: Never, text: "swap x 1 ar; fence sc; y acq || y = 1 rlx; fence sc; x acq" },
    Litmus { name: "grace period sc", genmc: 3, weak: "_,0,0", verdict: Never, text: "swap x 1 sc; y sc || y = 1 sc; x sc" },
    Litmus { name: "reuse rel;rlx/acq", genmc: 4, weak: "2,0", verdict: Sometimes, text: "x = 1 rel; y = 2 rlx || y acq; x rlx" },
    Litmus { name: "CAS fails rlx/rlx", genmc: 4, weak: "1,0", verdict: Sometimes, text: "x = 1 rlx; y = 1 rlx || y rlx; cas x 7 9 ar rlx" },
    Litmus { name: "CAS fails rel/acq", genmc: 3, weak: "1,0", verdict: Never, text: "x = 1 rlx; y = 1 rel || y acq; cas x 7 9 ar rlx" },
    Litmus { name: "History of 8", genmc: 18, weak: "1,0", verdict: Sometimes, text: "x = 1 rlx; x = 2 rlx; x = 3 rlx; x = 4 rlx; x = 5 rlx; x = 6 rlx; x = 7 rlx; x = 8 rlx; y = 1 rlx || y rlx; x rlx" },
    Litmus { name: "RMW+RMW+W rlx", genmc: 6, weak: "0,0", verdict: Never, text: "add x 1 rlx || add x 1 rlx || x = 5 rlx" },
    Litmus { name: "CAS race ar", genmc: 2, weak: "0,0", verdict: Never, text: "cas x 0 1 ar rlx || cas x 0 2 ar rlx" },
    Litmus { name: "Lock handover", genmc: 18, weak: "0,0,0,0", verdict: Never, text: "cas x 0 1 acq rlx; y rlx; y = 1 rlx; x = 0 rel || cas x 0 1 acq rlx; y rlx; y = 1 rlx; x = 0 rel" },
];
