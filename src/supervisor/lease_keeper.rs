//! The keeper of a lease: renews it for as long as it is ours, and hears of requests meanwhile.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::Code;
use crate::model::step::Step;
use crate::pipeline::Context;
use crate::retry;
use crate::state::{Lease, Renewed};
use crate::status::Board;

/// Renews the lease three times in its length, and leaves a report each time. Only the database's
/// "no" ends it: while the database is away nothing can be written by anyone, and the fence decides
/// when it is back. Meanwhile it is tried no less often, so that a request is heard of at once
/// after a failover.
pub(super) async fn keep(
    context: Context,
    board: Arc<Board>,
    lease: Lease,
    lost: CancellationToken,
    asked: Arc<Notify>,
) {
    let duration = context.settings.lease.duration;
    let interval = (duration / 3).min(Duration::from_secs(2));
    let mut failures = 0;
    loop {
        let begun = Instant::now();
        let report = serde_json::to_value(context.status.report()).unwrap_or_default();
        let commanded = match context.state.renew(&lease, duration, &report).await {
            Ok(Renewed::Kept) => false,
            Ok(Renewed::Commanded) => true,
            Ok(Renewed::Lost) => return lost.cancel(),
            Err(fault) => {
                failures += 1;
                board.target_answers(fault.code != Code::TargetUnreachable);
                let delay =
                    retry::delay(context.settings.retry, failures, fastrand::f64()).min(interval);
                context.status.retries(Step::Lease, failures, delay, &fault);
                context.wait(delay, &fault).await;
                continue;
            }
        };
        failures = 0;
        board.target_answers(true);
        context.status.renewed();
        if commanded {
            asked.notify_one();
        }
        tokio::time::sleep_until(begun + interval).await;
    }
}
