//! The program that takes a socket by the CPU it runs on, in the kernel's classic packet filter language.
//!
//! Pure: made from the CPUs and their sockets. The kernel runs it for each new connection on the CPU that received it
//! and takes its result as a place in the group; a place that does not exist leaves the choice to the hash.

/// One instruction, laid out as the kernel's `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Instruction {
    pub(super) code: u16,
    pub(super) jump_true: u8,
    pub(super) jump_false: u8,
    pub(super) operand: u32,
}

/// Loads a word: with [`THIS_CPU`], the number of the CPU.
const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
/// Jumps if the accumulator is at least the operand.
const JUMP_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
/// Jumps if it is more.
const JUMP_ABOVE: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
/// Subtracts the operand, modulo 2^32.
const SUBTRACT: u16 = (libc::BPF_ALU | libc::BPF_SUB | libc::BPF_K) as u16;
/// Ends with the accumulator.
const RETURN: u16 = (libc::BPF_RET | libc::BPF_A) as u16;
/// Ends with the operand.
const RETURN_OPERAND: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
/// `SKF_AD_OFF + SKF_AD_CPU`: not in the packet, but beside it.
const THIS_CPU: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_CPU) as u32;
/// A place that no group has.
const NOWHERE: u32 = u32::MAX;

/// Takes for each CPU its socket, and none for CPUs it does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program(pub(super) Vec<Instruction>);

impl Program {
    /// For each CPU, ascending, the place of its socket in the group. CPUs that count up together with their sockets
    /// take four instructions for all of them, so 4,096 CPUs in any order stay below the kernel's bound with 1,000 runs.
    ///
    /// # Errors
    /// There are more than the kernel takes.
    pub fn new(sockets: &[(usize, usize)]) -> Result<Self, String> {
        let mut runs: Vec<Run> = Vec::new();
        for &(cpu, socket) in sockets {
            let (cpu, socket) = (narrow(cpu)?, narrow(socket)?);
            match runs.last_mut() {
                Some(run) if run.goes_on(cpu, socket) => run.last = cpu,
                _ => runs.push(Run { first: cpu, last: cpu, less: cpu.wrapping_sub(socket) }),
            }
        }
        let mut program = vec![instruction(LOAD, 0, 0, THIS_CPU)];
        for run in runs {
            program.extend([
                instruction(JUMP_AT_LEAST, 0, 3, run.first),
                instruction(JUMP_ABOVE, 2, 0, run.last),
                instruction(SUBTRACT, 0, 0, run.less),
                instruction(RETURN, 0, 0, 0),
            ]);
        }
        program.push(instruction(RETURN_OPERAND, 0, 0, NOWHERE));
        if program.len() > libc::BPF_MAXINSNS as usize {
            return Err(format!(
                "it takes {} instructions, and the kernel takes {}",
                program.len(),
                libc::BPF_MAXINSNS
            ));
        }
        Ok(Self(program))
    }
}

/// CPUs next to each other whose sockets are, too.
struct Run {
    first: u32,
    last: u32,
    /// What a socket's place is less than its CPU.
    less: u32,
}

impl Run {
    fn goes_on(&self, cpu: u32, socket: u32) -> bool {
        cpu == self.last + 1 && cpu.wrapping_sub(socket) == self.less
    }
}

fn narrow(number: usize) -> Result<u32, String> {
    u32::try_from(number).map_err(|_| format!("{number} is no CPU"))
}

fn instruction(code: u16, jump_true: u8, jump_false: u8, operand: u32) -> Instruction {
    Instruction { code, jump_true, jump_false, operand }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Runs it as the kernel does; what it takes on `cpu`.
    fn run(program: &Program, cpu: u32) -> u32 {
        let (mut at, mut accumulator) = (0, 0_u32);
        loop {
            let Instruction { code, jump_true, jump_false, operand } = program.0[at];
            at += 1;
            let jump = |taken: bool| usize::from(if taken { jump_true } else { jump_false });
            match code {
                0x20 if operand == (-0x1000_i32 + 36) as u32 => accumulator = cpu,
                0x35 => at += jump(accumulator >= operand),
                0x25 => at += jump(accumulator > operand),
                0x14 => accumulator = accumulator.wrapping_sub(operand),
                0x16 => return accumulator,
                0x06 => return operand,
                other => panic!("{other:#x} is not understood"),
            }
        }
    }

    #[test]
    fn the_usual_machine_takes_six_instructions() {
        let sockets: Vec<(usize, usize)> = (1..64).map(|cpu| (cpu, cpu - 1)).collect();
        let program = Program::new(&sockets).unwrap();
        assert_eq!(program.0.len(), 6);
        assert_eq!([0, 1, 63, 64].map(|cpu| run(&program, cpu)), [u32::MAX, 0, 62, u32::MAX]);
    }

    #[test]
    fn what_the_kernel_would_not_take_is_refused() {
        let sockets: Vec<(usize, usize)> = (0..2000).map(|cpu| (cpu * 2, cpu)).collect();
        assert!(Program::new(&sockets).unwrap_err().contains("8002 instructions"));
    }

    proptest! {
        /// Broken by a run that goes on too far, or a jump that lands beside its run.
        #[test]
        fn every_cpu_finds_its_socket(sockets in proptest::collection::btree_map(0_usize..40, 0_usize..20, 0..20)) {
            let list: Vec<(usize, usize)> = sockets.clone().into_iter().collect();
            let program = Program::new(&list).unwrap();
            let sockets: BTreeMap<usize, usize> = sockets;
            for cpu in 0..42 {
                let expected = sockets.get(&cpu).map_or(u32::MAX, |&socket| u32::try_from(socket).unwrap());
                prop_assert_eq!(run(&program, u32::try_from(cpu).unwrap()), expected);
            }
        }
    }
}
