// SPDX-License-Identifier: Apache-2.0
// A VM that runs while its memory is still in an image.
#include "migrate/image/touch_order_file.hpp"
#include "tools/instance/vmm_instance.hpp"
#include "tools/json.hpp"
#include "tools/quantities.hpp"

#include <chrono>
#include <tuple>
#include <utility>

#include <boost/asio/post.hpp>
#include <fmt/format.h>

namespace wherry::tools {

using formats::ErrorCode;
using formats::fail;
using formats::Status;
using transport::Task;

namespace {

/// For a chunk that could not be had before.
constexpr std::chrono::milliseconds look_again{25};
constexpr int looks_at_most = 400;
/// For a vCPU that waits for a page, which is on its way.
constexpr std::chrono::seconds longest_pause{10};

std::string in_bytes(formats::PageCount pages) {
    return format_bytes(static_cast<double>(formats::bytes_of(pages).value()));
}

double ms(migrate::Duration duration) {
    return std::chrono::duration<double, std::milli>{duration}.count();
}

} // namespace

migrate::LazyMemoryEvents VmmInstance::image_events() {
    return {
        .on_whole = [this] { boost::asio::post(context_, [this] { image_is_whole(); }); },
        .on_failure =
            [this](const formats::Error& error) {
                boost::asio::post(context_, [this, error] { image_has_failed(error); });
            }};
}

void VmmInstance::adopt_lazily(
    std::unique_ptr<vmm::Machine> machine,
    std::unique_ptr<migrate::LazyMemory> memory,
    RestoredImage image) {
    adopt(std::move(machine));
    image_ = std::move(image);
    lazy_ = std::move(memory);
}

/// A hint for the next time; where it cannot be written there is none. On another thread: a disk
/// that is busy takes seconds, and the API does not wait for a hint.
void VmmInstance::keep_touch_order() {
    if (auto touched = lazy_->touched(); touched.has_news) {
        boost::asio::post(
            image_writer_,
            [path = image_->path, root = image_->root, chunks = std::move(touched.chunks)] {
                std::ignore = migrate::write_touch_order(path, root, chunks);
            });
    }
}

void VmmInstance::image_is_whole() {
    if (!lazy_) {
        return; // on the way out
    }
    keep_touch_order();
    image_->last = lazy_->status();
    lazy_.reset();
    if (auto begin = std::exchange(waits_for_image_, nullptr)) {
        begin();
    }
}

/// A vCPU that waits for a page which does not come may not leave the guest, and the machine is not
/// paused before it does: that is waited for on another thread. It does not get anywhere meanwhile,
/// and the others stand still.
void VmmInstance::image_has_failed(const formats::Error& error) {
    if (finishing_ || !image_failure()) {
        return; // on the way out, or somebody has tried again meanwhile
    }
    fmt::print(stderr, "wherry: {}: {}\n", name_.name(), explain());
    if (waits_for_image_) {
        job_waits_no_more(formats::Error{error}.during("waiting for the image"));
    }
    if (std::exchange(is_stopping_, true)) {
        return;
    }
    boost::asio::post(stopper_, [this] {
        auto stopped = machine_->pause();
        boost::asio::post(context_, [this, stopped = std::move(stopped)] {
            is_stopping_ = false;
            if (!stopped) {
                print_error(stopped.error());
            }
        });
    });
}

std::optional<formats::Error> VmmInstance::image_failure() const {
    return lazy_ ? lazy_->status().failure : std::nullopt;
}

/// Where it failed: what could not be had is asked for again, and the guest goes on once it is
/// here.
Task<void> VmmInstance::retry_image() {
    if (lazy_) {
        lazy_->retry();
    }
    for (int looks = 0; looks < looks_at_most; ++looks) {
        auto waited = co_await transport::pause_for(look_again);
        if (!waited) {
            co_return fail(std::move(waited).error());
        }
        if (!lazy_) {
            co_return Status{}; // all of it is here
        }
        const auto status = lazy_->status();
        if (status.failure) {
            co_return fail(formats::Error{*status.failure}.during("the VM still stands still"));
        }
        if (!status.is_retrying && !is_stopping_) {
            co_return Status{};
        }
    }
    co_return fail(ErrorCode::timed_out, "the pages that the VM waits for have not come yet");
}

void VmmInstance::when_image_is_whole(std::move_only_function<void()> begin) {
    if (!lazy_) {
        begin();
        return;
    }
    migrate::ProgressSnapshot waiting;
    waiting.ownership_state = "waiting-for-image";
    waiting.ownership = "waiting for the image: the VM's memory is not all here yet";
    job_->progressed(waiting);
    waits_for_image_ = std::move(begin);
    boost::asio::post(session_.executor(), [this, job = job_] {
        // Until the job's own session asks to be told instead.
        job->gate().on_request([this, job] {
            boost::asio::post(context_, [this, job] {
                if (waits_for_image_ && job == job_) {
                    job_waits_no_more({ErrorCode::cancelled, "it was cancelled"});
                }
            });
        });
    });
    lazy_->hurry();
}

void VmmInstance::job_waits_no_more(const formats::Error& why) {
    waits_for_image_ = nullptr;
    const bool was_asked_to = why.code() == ErrorCode::cancelled;
    job_->finish(was_asked_to ? JobState::cancelled : JobState::failed, why, migrate::Report{});
    print_error(why);
    catch_up_after_job();
}

std::string VmmInstance::explain_image() const {
    const auto status = lazy_->status();
    if (status.failure) {
        return fmt::format(
            "the VM stands still, for its memory cannot be completed: {}. Once the image can be "
            "read: wherry resume {}; to end the VM: wherry kill {}",
            status.failure->text(),
            name_.name(),
            name_.name());
    }
    return fmt::format(
        "{} of {} of its memory are still in {} and come as they are touched{}",
        in_bytes(status.missing),
        in_bytes(status.in_image),
        image_->path.string(),
        status.prefetch == migrate::Prefetch::on ? ", and ahead of that" : "");
}

void VmmInstance::describe_image(api::Vm& vm) const {
    if (!image_) {
        return;
    }
    const auto status = lazy_ ? lazy_->status() : image_->last;
    auto& into = *vm.mutable_restoring();
    into.set_image(image_->path.string());
    into.set_image_bytes(static_cast<double>(formats::bytes_of(status.in_image).value()));
    into.set_missing_bytes(static_cast<double>(formats::bytes_of(status.missing).value()));
    into.set_prefetch(status.prefetch == migrate::Prefetch::on ? "on" : "off");
    into.set_waiting_faults(static_cast<double>(status.waiting));
    auto& waits = *into.mutable_waits();
    waits.set_count(static_cast<double>(status.waits.count));
    waits.set_median_ms(ms(status.waits.median));
    waits.set_p99_ms(ms(status.waits.p99));
    waits.set_longest_ms(ms(status.waits.longest));
    waits.set_repeated_bytes(static_cast<double>(formats::bytes_of(status.waits.repeated).value()));
    if (status.failure) {
        *into.mutable_failure() = failure_from(*status.failure);
    }
}

bool VmmInstance::let_go_of_memory() {
    if (lazy_) {
        keep_touch_order();
    }
    image_writer_.join();
    if (leaves_memory_) {
        return false;
    }
    if (!lazy_) {
        return true;
    }
    if (is_stopping_ || !machine_->pause_within(longest_pause, vmm::IfLate::goes_on)) {
        return false;
    }
    lazy_.reset();
    return true;
}

} // namespace wherry::tools
