//! Makes a case that fails small: steps are taken away, then what is odd about those that are left,
//! for as long as it fails still.

use crate::{
    play::{Difference, Stage},
    spec::{Backend, Case, Packet, Service, Step},
};

/// The smallest case found that goes differently, and how.
pub fn shrink(stage: &mut Stage, case: &Case, difference: Difference) -> (Case, Difference) {
    let mut best = (case.clone(), difference);
    best.0.steps.truncate(best.1.step + 1);
    let mut again = true;
    while again {
        again = without_steps(stage, &mut best) | plainer(stage, &mut best);
    }
    best
}

/// Takes `case` for the best one if it fails; tells whether it does.
fn take(stage: &mut Stage, best: &mut (Case, Difference), case: Case) -> bool {
    match stage.play(&case) {
        Ok(_) => false,
        Err(difference) => {
            *best = (case, difference);
            best.0.steps.truncate(best.1.step + 1);
            true
        }
    }
}

fn without_steps(stage: &mut Stage, best: &mut (Case, Difference)) -> bool {
    let mut shrunk = false;
    let mut chunk = best.0.steps.len().next_power_of_two() / 2;
    while chunk > 0 {
        let mut at = 0;
        while at < best.0.steps.len() {
            let mut case = best.0.clone();
            case.steps.drain(at..(at + chunk).min(case.steps.len()));
            if take(stage, best, case) { shrunk = true } else { at += chunk }
        }
        chunk /= 2;
    }
    shrunk
}

fn plainer(stage: &mut Stage, best: &mut (Case, Difference)) -> bool {
    let mut shrunk = false;
    let mut at = 0;
    while at < best.0.steps.len() {
        // Each is made from the step as it is by then.
        let mut turn = 0;
        while let Some(now) = best.0.steps.get(at)
            && let Some(step) = plainer_steps(now).into_iter().nth(turn)
        {
            if step != *now {
                let mut case = best.0.clone();
                case.steps[at] = step;
                shrunk |= take(stage, best, case);
            }
            turn += 1;
        }
        at += 1;
    }
    shrunk
}

/// The step with one field after the other as plain as can be.
fn plainer_steps(step: &Step) -> Vec<Step> {
    match step {
        Step::Packet(packet) => {
            let plain = Packet::default();
            let p = || packet.clone();
            [
                Packet { changed: plain.changed.clone(), ..p() },
                Packet { cut: None, ..p() },
                Packet { wrong: (0, 0), ..p() },
                Packet { trailer: 0, ..p() },
                Packet { tags: 0, ..p() },
                Packet { options: 0, ..p() },
                Packet { part: plain.part, ..p() },
                Packet { id: 0, ..p() },
                Packet { payload: 0, ..p() },
                Packet { more: 0, ..p() },
                Packet { tos: 0, ..p() },
                Packet { whole: false, ..p() },
                Packet { aged: 0, ..p() },
                Packet { way: 0, ..p() },
                Packet { unsummed: false, ..p() },
                Packet { sequence: 0, ..p() },
                Packet { message: 0, ..p() },
                Packet { quoted: 0, ..p() },
                Packet { acknowledges: plain.acknowledges, ..p() },
                Packet { to_port: 0, ..p() },
                Packet { port: 0, ..p() },
                Packet { client: 0, ..p() },
            ]
            .map(Step::Packet)
            .to_vec()
        }
        Step::Backend(backend) => {
            let b = || backend.clone();
            [
                Backend { max_connections: 0, ..b() },
                Backend { mtu: 0, ..b() },
                Backend { any_port: false, ..b() },
                Backend { lost: false, ..b() },
                Backend { one_nic: false, ..b() },
                Backend { other_family: false, ..b() },
                Backend { more_sources: 0, ..b() },
                Backend { ports: 0, ..b() },
            ]
            .map(Step::Backend)
            .to_vec()
        }
        Step::Service(service) => {
            let s = || service.clone();
            let plain = Service::default();
            [
                Service { sticky: false, ..s() },
                Service { limit: None, ..s() },
                Service { client_limit: None, ..s() },
                Service { access: Vec::new(), ..s() },
                Service { reject: false, ..s() },
                Service { reject_no_backend: false, ..s() },
                Service { scheduler: plain.scheduler, ..s() },
                Service { mode: plain.mode, ..s() },
            ]
            .map(Step::Service)
            .to_vec()
        }
        Step::Remove(_) | Step::Access(_) | Step::Pass(_) => Vec::new(),
    }
}
