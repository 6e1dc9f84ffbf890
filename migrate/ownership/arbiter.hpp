// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "migrate/ownership/record.hpp"
#include "migrate/ownership/vm_id.hpp"

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace wherry::migrate {

/// What came of a request, as it was read afterwards.
struct SwapOutcome {
    bool is_done = false; ///< the record is what was wanted, by this request or by one before it
    std::optional<ArbiterRecord> now; ///< where it is not done: why not. nothing: no record
};

/// Keeps one record per VM that both hosts can reach, and changes it by compare-and-swap:
/// docs/design.md, "Arbiters"; may_follow() is the rule. There is no lease and no clock in it.
///
/// Blocking, with a limit, one thread at a time: a session awaits a call on its worker
/// (transport::offload), as it does for disks. File systems cannot be asked in any other way, the
/// calls are rare (two or three in a migration), and a caller that is cancelled must know
/// what came of them all the same.
///
/// An Error of either call says nothing about the record: it is as it was, or changed as was
/// wanted, now or some time later. So the caller stays paused, and reads again. Codes that get
/// better by themselves: unreachable, timed_out, connection_lost; the others need a person first.
class Arbiter {
public:
    using Duration = std::chrono::steady_clock::duration;

    virtual ~Arbiter() = default;

    /// nothing: there is no record of this VM yet. What was read is durable.
    formats::Result<std::optional<ArbiterRecord>> read(const VmId& vm, Duration limit);
    /// Makes `wanted` the record where may_follow() lets it follow what is there. Asking again for
    /// what has been done is done.
    formats::Result<SwapOutcome>
    request(const VmId& vm, const ArbiterRecord& wanted, Asker asker, Duration limit);

    /// As arbiter_from() reads it.
    [[nodiscard]] virtual std::string name() const = 0;

protected:
    using Deadline = std::chrono::steady_clock::time_point;
    struct Seen {
        std::optional<ArbiterRecord> record;
        std::uint64_t revision = 0; ///< grows with every change; 0 where there is no record
    };

private:
    virtual formats::Result<Seen> look(const VmId& vm, Deadline deadline) = 0;
    /// Makes `text` the record where its revision is still that of `seen`. true: it is the record,
    /// durably; false: somebody else was first.
    virtual formats::Result<bool>
    replace(const VmId& vm, const Seen& seen, std::string text, Deadline deadline) = 0;
};

/// "local": empty, since the source's journal decides there. "file:DIR": FileArbiter.
/// "etcd:HOST:PORT[,HOST:PORT...][?tls=DIR]": EtcdArbiter. Nothing is opened or connected yet.
/// Error{invalid_argument} for anything else.
formats::Result<std::unique_ptr<Arbiter>> arbiter_from(std::string_view text);

/// A record as arbiters keep it: three lines that a person can read, with who asked for it.
std::string arbiter_text(const ArbiterRecord& record, Asker asker);
/// Error{corrupted} for anything that arbiter_text() does not write.
formats::Result<ArbiterRecord> record_from_arbiter_text(std::string_view text);

} // namespace wherry::migrate
