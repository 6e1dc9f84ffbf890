// SPDX-License-Identifier: Apache-2.0
// A VM that is given up for good while half of its memory is here: its half becomes a file.
#include "tools/instance/vmm_instance.hpp"
#include "tools/json.hpp"

#include <chrono>
#include <utility>

#include <fmt/format.h>

namespace wherry::tools {

using formats::ErrorCode;
using formats::fail;
using formats::Status;
using transport::Task;

namespace {

/// For the decision to be on the disk, and its session to be over.
constexpr std::chrono::milliseconds look_again{25};
constexpr int looks_at_most = 1200;

} // namespace

void VmmInstance::keep_half(
    migrate::ImageExtent extent, std::optional<dirtylog::DirtySet> missing) {
    situation_ = Situation::salvaged;
    half_ = Half{.extent = extent, .missing = std::move(missing), .is_being_written = false};
    fmt::print(stderr, "wherry: {}: {}\n", name_.name(), explain());
}

std::string VmmInstance::explain_half() const {
    return fmt::format(
        "the VM never runs again from here; {} of it is in memory until it is written: wherry "
        "salvage {} FILE.wimg",
        name_of(half_->extent),
        name_.name());
}

Task<std::string> VmmInstance::answer_salvage(std::string body) {
    const auto request = message_from_json<api::SalvageRequest>(body);
    if (!request) {
        co_return fail(request.error());
    }
    const std::filesystem::path path{request->file()};
    if (!path.is_absolute()) {
        co_return fail(ErrorCode::invalid_argument, "'file' is the absolute path of a new file");
    }
    if (auto possible = migrate::NewImageFile::check(path); !possible) {
        co_return fail(std::move(possible).error());
    }
    auto given_up = co_await give_up();
    if (!given_up) {
        co_return fail(std::move(given_up).error());
    }
    if (half_->is_being_written || finishing_) {
        co_return fail(ErrorCode::wrong_state, name_.name() + " is being written already");
    }
    half_->is_being_written = true;
    auto write = [this, &path] {
        return write_half(path);
    };
    auto written = co_await transport::offload(image_writer_.get_executor(), write);
    half_->is_being_written = false;
    if (!written) {
        co_return fail(std::move(written).error().during(
            "writing what is left of the VM (it is kept, and can be written again)"));
    }
    const bool is_source = half_->extent == migrate::ImageExtent::source_half;
    api::Vm vm = describe();
    vm.set_explanation(fmt::format(
        "{} is in {}; with the other one: wherry image join {} OUT.wimg, then wherry restore "
        "OUT.wimg",
        name_of(half_->extent),
        path.string(),
        is_source ? path.string() + " DESTINATION.wimg" : "SOURCE.wimg " + path.string()));
    situation_ = Situation::ended;
    finish(ExitCode::done);
    co_return to_json(vm, JsonLayout::one_line);
}

/// The owner's refusal where there is no half.
Task<void> VmmInstance::give_up() {
    if (situation_ == Situation::salvaged) {
        co_return Status{};
    }
    if (doubt_) {
        auto done = doubt_->salvage();
        if (!done) {
            co_return fail(std::move(done).error());
        }
        epoch_ = doubt_->epoch();
        doubt_.reset();
        keep_half(migrate::ImageExtent::source_half, std::nullopt);
        co_return Status{};
    }
    if (!has_running_job()) {
        co_return fail(
            ErrorCode::wrong_state,
            fmt::format(
                "no half of a VM is here that could be salvaged: {}",
                situation_ == Situation::present ? name_.name() + " is here as a whole"
                                                 : explain()));
    }
    const auto job = job_;
    auto said = co_await job->desk().salvage();
    if (!said) {
        co_return fail(std::move(said).error());
    }
    for (int looks = 0; looks < looks_at_most && job->is_running(); ++looks) {
        auto waited = co_await transport::pause_for(look_again);
        if (!waited) {
            co_return fail(std::move(waited).error());
        }
    }
    if (situation_ != Situation::salvaged) {
        co_return fail(
            ErrorCode::wrong_state,
            fmt::format("{} is given up, but not yet: {}; ask again", name_.name(), explain()));
    }
    co_return Status{};
}

/// On a thread of its own: nobody changes the half or the machine meanwhile.
Status VmmInstance::write_half(const std::filesystem::path& path) {
    const auto last = keeper_->last();
    formats::invariant(
        last && last->record.kind == migrate::RecordKind::salvaged,
        "what is left of a VM is written after it was given up");
    migrate::ImageDescription description;
    description.extent = half_->extent;
    description.plan.vm_name = name_.name();
    description.plan.vm_id = last->vm_id.to_string();
    description.epoch = last->record.epoch;
    description.migration_id = last->record.migration_id;
    description.arbiter = last->record.arbiter;
    description.written_at =
        std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
    const auto& missing = half_->missing;
    return migrate::write_guest(
        *machine_,
        std::move(description),
        missing ? *missing : dirtylog::DirtySet{machine_->memory()},
        path,
        {});
}

} // namespace wherry::tools
