// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/error.hpp"
#include "formats/proto/api.pb.h"
#include "migrate/cancel_gate.hpp"
#include "migrate/estimation.hpp"
#include "migrate/operator_desk.hpp"
#include "migrate/policy_tuner.hpp"
#include "migrate/progress.hpp"

#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace wherry::tools {

enum class JobKind : std::uint8_t {
    migrate,
    receive,
    estimate,
    snapshot,
    settle, ///< finds out which side has a VM whose process ended during its hand-over
};
enum class JobState : std::uint8_t { running, done, failed, cancelled, in_doubt };

/// For tests that kill, stop or cut off a process in a certain state: with WHERRY_HOLD_AT=STATE in
/// its environment (a phase's name or an owner's state) it stops itself with SIGSTOP there, once,
/// until SIGCONT.
class HoldPoint {
public:
    HoldPoint();
    void passed(const migrate::ProgressSnapshot& now);

private:
    std::string at_;
};

/// What there is to know of one migration, estimate or snapshot, as it goes and afterwards. Written
/// by the session's thread, read by the API's: every member may be called on any thread.
class Job final : public migrate::Observer {
public:
    Job(JobKind kind, std::string id, std::string peer, transport::Executor session);
    ~Job() = default;

    void progressed(const migrate::ProgressSnapshot& now) override;
    void planned(const std::vector<std::string>& findings) override;
    /// Once, with what became of it.
    void finish(JobState state, const std::optional<formats::Error>& error, migrate::Report report);
    /// Of an estimate that is done.
    void finish(migrate::Estimation estimation);

    [[nodiscard]] JobKind kind() const noexcept { return kind_; }
    [[nodiscard]] const std::string& id() const noexcept { return id_; }
    [[nodiscard]] bool is_running() const;
    [[nodiscard]] api::Job describe() const;
    [[nodiscard]] migrate::CancelGate& gate() noexcept { return gate_; }
    [[nodiscard]] migrate::PolicyTuner& tuner() noexcept { return tuner_; }
    [[nodiscard]] migrate::OperatorDesk& desk() noexcept { return desk_; }
    /// The owner's state and its sentence; empty before the hand-over.
    [[nodiscard]] std::pair<std::string, std::string> ownership() const;

private:
    const JobKind kind_;
    const std::string id_;
    const std::string peer_;
    migrate::CancelGate gate_;
    migrate::PolicyTuner tuner_;
    migrate::OperatorDesk desk_;
    HoldPoint hold_point_; ///< the session's thread's

    mutable std::mutex mutex_;
    JobState state_ = JobState::running;
    migrate::ProgressSnapshot progress_;
    std::vector<std::string> plan_;
    std::optional<formats::Error> error_;
    migrate::Report report_;
    std::optional<migrate::Estimation> estimation_;
};

std::string_view name_of(JobState state) noexcept;
std::string_view name_of(JobKind kind) noexcept;

/// 128 random bits in hexadecimal.
std::string make_migration_id();

} // namespace wherry::tools
