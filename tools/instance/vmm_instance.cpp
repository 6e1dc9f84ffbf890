// SPDX-License-Identifier: Apache-2.0
#include "tools/instance/vmm_instance.hpp"

#include "tools/instance/security.hpp"

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include <boost/asio/post.hpp>
#include <fmt/format.h>

namespace wherry::tools {

using formats::ErrorCode;
using formats::Result;
using formats::Status;

namespace {

/// How long a client may take from one question about its job to the next.
constexpr std::chrono::seconds longest_farewell{2};
JobState state_after(const std::optional<formats::Error>& error, bool in_doubt) {
    if (in_doubt) {
        return JobState::in_doubt;
    }
    if (!error) {
        return JobState::done;
    }
    return error->code() == ErrorCode::cancelled ? JobState::cancelled : JobState::failed;
}

} // namespace

VmmInstance::VmmInstance(InstanceName name, vmm::MachineHost host)
    : name_{std::move(name)},
      host_{std::move(host)} {}

VmmInstance::~VmmInstance() {
    session_.stop(); // before anything that a session looks at goes away
}

Status VmmInstance::open_journal() {
    auto opened = InstanceKeeper::open(name_.name());
    if (!opened) {
        return formats::fail(std::move(opened).error().during("opening the VM's journal"));
    }
    keeper_ = *std::move(opened);
    return {};
}

/// A shared arbiter may have given the VM back to its source meanwhile, by the word of a person who
/// held this host to be dead for good.
Status VmmInstance::check_held(const migrate::OwnershipRecord& record) {
    if (!migrate::is_shared_arbiter(record.arbiter)) {
        return {};
    }
    const auto says = keeper_->ask(
        {.arbiter = record.arbiter, .wanted = {}, .asker = migrate::Asker::destination});
    if (!says) {
        return formats::fail(formats::Error{says.error()}.during(
            "asking the arbiter whether the VM is still this side's"));
    }
    if (*says && (*says)->epoch == record.epoch) {
        return {};
    }
    return formats::fail(
        ErrorCode::wrong_state,
        fmt::format(
            "{} was here as epoch {}, and the arbiter says that it is not any more ({} of epoch "
            "{}); take another name",
            name_.name(),
            static_cast<std::uint64_t>(record.epoch),
            *says ? name_of((*says)->kind) : "no record",
            *says ? static_cast<std::uint64_t>((*says)->epoch) : 0));
}

Result<VmmInstance::Claim> VmmInstance::claim_vm() {
    const auto last = keeper_->last();
    if (!last) {
        return Claim::ours;
    }
    const auto& record = last->record;
    const auto epoch = static_cast<std::uint64_t>(record.epoch);
    switch (record.kind) {
    case migrate::RecordKind::offered:
    case migrate::RecordKind::committed:
        return Claim::undecided;
    case migrate::RecordKind::salvaged:
        return formats::fail(
            ErrorCode::wrong_state,
            fmt::format(
                "{} was salvaged, and never runs again from here; take another name",
                name_.name()));
    case migrate::RecordKind::running:
    case migrate::RecordKind::done:
        if (auto held = check_held(record); !held) {
            return formats::fail(std::move(held).error());
        }
        [[fallthrough]];
    case migrate::RecordKind::reclaimed:
        epoch_ = record.epoch;
        fmt::print(
            stderr,
            "wherry: {}: this VM was here as epoch {} when its process ended; it is booted again\n",
            name_.name(),
            epoch);
        return Claim::ours;
    case migrate::RecordKind::handed_off:
    case migrate::RecordKind::accepted:
    case migrate::RecordKind::abandoned:
        break;
    }
    // Whatever VM that was, it is not this side's: a new one starts under its name.
    keeper_->set_vm_id(migrate::VmId::make());
    return Claim::ours;
}

std::optional<migrate::OwnershipRecord> VmmInstance::last_record_of(const migrate::VmId& vm) const {
    const auto last = keeper_->last();
    if (!last || last->vm_id != vm) {
        return std::nullopt;
    }
    return last->record;
}

Status VmmInstance::open_api() {
    auto opened = ApiServer::open(context_.get_executor(), name_.socket(), [this](ApiCall call) {
        return answer(std::move(call));
    });
    if (!opened) {
        return formats::fail(std::move(opened).error());
    }
    api_.emplace(*std::move(opened));
    return {};
}

void VmmInstance::adopt(std::unique_ptr<vmm::Machine> machine) {
    machine_ = std::move(machine);
    situation_ = Situation::present;
    machine_->on_end([this](const vmm::MachineEnd& end) {
        boost::asio::post(context_, [this, end] { on_machine_end(end); });
    });
}

ExitCode VmmInstance::serve() {
    signals_.add(SIGINT);
    signals_.add(SIGTERM);
    on_signal();
    context_.run();
    return exit_code_;
}

void VmmInstance::on_signal() {
    signals_.async_wait([this](const boost::system::error_code& problem, int /*signal*/) {
        if (problem) {
            return;
        }
        end_wanted_ = true;
        if (situation_ == Situation::salvaged) {
            fmt::print(stderr, "wherry: {}: {}\n", name_.name(), explain());
            end_wanted_ = false;
        } else if (doubt_) {
            fmt::print(
                stderr,
                "wherry: {} is in doubt and is kept; decide with: wherry resolve {} --keep ...\n",
                name_.name(),
                name_.name());
            end_wanted_ = false;
        } else if (has_running_job()) {
            // Its outcome says what then may end.
            const auto answer = job_->gate().request_cancel();
            // A snapshot that is all but there only takes a moment.
            if (answer == migrate::CancelAnswer::too_late && job_->kind() != JobKind::snapshot) {
                fmt::print(
                    stderr,
                    "wherry: {}: the hand-over can no longer be cancelled; ask again once it is "
                    "over\n",
                    name_.name());
                end_wanted_ = false;
            }
        } else if (situation_ != Situation::listening || refuse_arrivals()) {
            finish(ExitCode::done);
        } // else a VM is just arriving: its job will be cancelled when it is known
        on_signal();
    });
}

void VmmInstance::on_machine_end(const vmm::MachineEnd& end) {
    fmt::print(stderr, "wherry: {}: {}\n", name_.name(), end.text);
    if (has_running_job()) {
        job_->gate().request_cancel();
        return; // source_concluded goes on from there
    }
    conclude_guest_end();
}

void VmmInstance::catch_up_after_job() {
    if (machine_->end()) {
        conclude_guest_end();
    } else if (end_wanted_) {
        finish(ExitCode::done);
    }
}

void VmmInstance::conclude_guest_end() {
    situation_ = Situation::ended;
    const auto end = machine_->end();
    const bool well = end && end->cause != vmm::MachineEnd::Cause::crashed && end->exit_code == 0;
    finish(well ? ExitCode::done : ExitCode::failed);
}

void VmmInstance::remember_link(const migrate::Report& report) {
    if (auto link = migrate::link_of(report)) {
        known_link_ = *link;
    }
}

void VmmInstance::source_concluded(migrate::SourceOutcome outcome) {
    const bool in_doubt = outcome.state == migrate::SourceState::in_doubt;
    epoch_ = outcome.epoch;
    remember_link(outcome.report);
    job_->finish(state_after(outcome.error, in_doubt), outcome.error, std::move(outcome.report));
    if (outcome.error) {
        print_error(*outcome.error);
    }
    if (in_doubt) {
        situation_ = Situation::in_doubt;
        doubt_ = std::move(outcome.doubt);
        fmt::print(stderr, "wherry: {}: {}\n", name_.name(), explain());
    } else if (outcome.state == migrate::SourceState::salvaged) {
        keep_half(migrate::ImageExtent::source_half, std::nullopt);
    } else if (outcome.state == migrate::SourceState::handed_off) {
        situation_ = Situation::handed_off;
        finish(ExitCode::done);
    } else {
        catch_up_after_job();
    }
}

void VmmInstance::destination_concluded(
    const std::shared_ptr<Job>& job, migrate::DestinationOutcome outcome) {
    const bool in_doubt = outcome.state == migrate::DestinationState::in_doubt;
    remember_link(outcome.report);
    job->finish(state_after(outcome.error, in_doubt), outcome.error, std::move(outcome.report));
    if (outcome.error) {
        print_error(*outcome.error);
    }
    epoch_ = outcome.epoch;
    if (outcome.machine) {
        adopt(std::move(outcome.machine));
    }
    if (in_doubt) {
        situation_ = Situation::in_doubt;
        doubt_ = std::move(outcome.doubt);
        fmt::print(stderr, "wherry: {}: {}\n", name_.name(), explain());
    } else if (outcome.state == migrate::DestinationState::salvaged) {
        keep_half(migrate::ImageExtent::destination_half, std::move(outcome.missing));
    } else if (outcome.state == migrate::DestinationState::lost) {
        situation_ = Situation::present; // it is ours, and stands still: to be resumed or killed
    } else if (outcome.state != migrate::DestinationState::done) {
        situation_ = Situation::ended;
        finish(exit_code_for(job->describe()));
    } else {
        catch_up_after_job();
    }
}

bool VmmInstance::refuse_arrivals() {
    auto expected = Arrivals::awaited;
    return arrivals_.compare_exchange_strong(expected, Arrivals::refused) ||
           expected == Arrivals::refused;
}

void VmmInstance::finish(ExitCode code) {
    if (finishing_) {
        return;
    }
    finishing_ = true;
    exit_code_ = code;
    name_.release();
    leave_after(job_ ? std::chrono::milliseconds{longest_farewell} : shortest_farewell);
}

void VmmInstance::leave_after(std::chrono::milliseconds delay) {
    farewell_.expires_after(delay);
    farewell_.async_wait([this](const boost::system::error_code& problem) {
        if (!problem) {
            context_.stop();
        }
    });
}

ExitCode serve_instance(
    const std::string& name,
    const vmm::MachineHost& host,
    const std::function<Status(VmmInstance&)>& prepare) {
    auto claimed = InstanceName::claim(name);
    if (!claimed) {
        return fail_with(claimed.error());
    }
    VmmInstance instance{*std::move(claimed), host};
    const auto ready = formats::then(
        formats::then(instance.open_journal(), [&] { return prepare(instance); }),
        [&] { return instance.open_api(); });
    if (!ready) {
        return fail_with(ready.error());
    }
    const auto code = instance.serve();
    if (!instance.let_go_of_memory()) {
        std::fflush(nullptr);
        std::_Exit(static_cast<int>(code));
    }
    return code;
}

namespace {

Result<std::unique_ptr<vmm::Machine>> start_machine(const RunOptions& options) {
    auto config = options.config;
    auto cpuid = vmm::cpuid_for(options.cpu, options.host.hypervisor);
    if (!cpuid) {
        return formats::fail(std::move(cpuid).error());
    }
    config.cpuid = *std::move(cpuid);
    auto machine = vmm::Machine::create(std::move(config), options.host);
    if (!machine) {
        return machine;
    }
    auto started = formats::then((*machine)->boot(options.boot), [&]() -> Status {
        return options.start == StartState::running ? (*machine)->resume() : Status{};
    });
    if (!started) {
        return formats::fail(std::move(started).error());
    }
    return machine;
}

} // namespace

ExitCode run_instance(const RunOptions& options) {
    return serve_instance(options.name, options.host, [&options](VmmInstance& instance) -> Status {
        const auto claim = instance.claim_vm();
        if (!claim) {
            return formats::fail(claim.error());
        }
        instance.listen_again();
        if (*claim == VmmInstance::Claim::undecided) {
            return instance.settle([&options] { return start_machine(options); });
        }
        auto machine = start_machine(options);
        if (!machine) {
            return formats::fail(std::move(machine).error());
        }
        instance.adopt(*std::move(machine));
        return {};
    });
}

ExitCode receive_instance(const ReceiveOptions& options) {
    return serve_instance(options.name, options.host, [&options](VmmInstance& instance) {
        if (options.tls_directory.empty()) {
            fmt::print(
                stderr,
                "wherry: WARNING: --insecure: anyone who can connect can read this VM or put one "
                "here\n");
        }
        return formats::then(
            server_security(options.tls_directory), [&](transport::Security security) {
                instance.set_tls_directory(options.tls_directory);
                return instance.listen(options.listen, std::move(security));
            });
    });
}

} // namespace wherry::tools
