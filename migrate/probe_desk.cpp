// SPDX-License-Identifier: Apache-2.0
// What a destination answers to who wants to know what would become of a migration.
#include "migrate/host_memory.hpp"
#include "migrate/probe.hpp"
#include "transport/task_group.hpp"

#include <algorithm>
#include <span>
#include <utility>

#include <boost/asio/thread_pool.hpp>
#include <fmt/format.h>

namespace wherry::migrate {

namespace {

using formats::Bytes;
using formats::ErrorCode;
using formats::Status;
using transport::Task;

constexpr Bytes part_size{std::uint64_t{64} << 10U};

/// One source's visit.
class Visit {
public:
    Visit(SessionChannel& channel, const ProbeDeskOptions& options, transport::Executor worker)
        : channel_{channel},
          options_{options},
          worker_{std::move(worker)} {}

    Task<void> run() {
        auto message = co_await channel_.expect(Control::kPlan);
        if (!message) {
            co_return formats::fail(std::move(message).error());
        }
        auto answered = co_await answer(message->plan());
        if (!answered) {
            co_return answered;
        }
        co_return co_await count();
    }

private:
    /// As a migration's plan is looked at, but that nothing is made for it.
    Task<void> answer(const formats::proto::Plan& said) {
        auto plan = from_proto(said);
        if (!plan) {
            co_return formats::fail(std::move(plan).error());
        }
        const auto measure = options_.available_memory
                                 ? options_.available_memory
                                 : std::function<formats::Result<Bytes>()>{host_memory_headroom};
        auto available = co_await transport::offload(worker_, measure);
        if (!available) {
            co_return formats::fail(std::move(available).error());
        }
        const HostOffer offer{options_.host, *available};
        auto verdict = verdict_on(*plan, offer);
        verdict.objections = objections(*plan, offer);
        if (!verdict.objections.empty()) {
            verdict.findings.clear(); // they say that all is well
        }
        Control message;
        to_proto(verdict, offer, *message.mutable_plan_answer());
        co_return co_await channel_.send(message);
    }

    Task<void> count() {
        buffer_.resize(part_size.value());
        while (true) {
            auto header = co_await channel_.receive();
            if (!header) {
                co_return formats::fail(std::move(header).error());
            }
            if (header->type == formats::FrameType::control) {
                auto message = co_await channel_.take_control(*header);
                if (!message) {
                    co_return formats::fail(std::move(message).error());
                }
                if (message->has_probe_end()) {
                    co_return Status{};
                }
                if (!message->has_keep_alive()) {
                    co_return formats::fail(
                        ErrorCode::protocol,
                        fmt::format(
                            "{} sent {} in the middle of a probe",
                            channel_.peer(),
                            name_of(message->message_case())));
                }
                continue;
            }
            auto dropped = co_await drop(*header);
            if (!dropped) {
                co_return dropped;
            }
        }
    }

    Task<void> drop(const formats::FrameHeader& header) {
        const bool is_due = header.type == formats::FrameType::probe &&
                            header.payload_length > Bytes{0} &&
                            header.payload_length <= probe_limit - counted_;
        if (!is_due) {
            co_return formats::fail(
                ErrorCode::protocol,
                fmt::format(
                    "{} sent a frame of type {} with {} bytes after {} bytes of a probe, which has "
                    "{} at most",
                    channel_.peer(),
                    static_cast<unsigned>(header.type),
                    header.payload_length.value(),
                    counted_.value(),
                    probe_limit.value()));
        }
        auto taken = co_await channel_.bounded(take(header.payload_length));
        if (!taken) {
            co_return taken;
        }
        auto good = channel_.finish_payload(header);
        if (!good) {
            co_return good;
        }
        counted_ += header.payload_length;
        Control message;
        message.mutable_probed()->set_bytes(counted_.value());
        co_return co_await channel_.send(message);
    }

    Task<void> take(Bytes left) {
        while (left > Bytes{0}) {
            const Bytes part = std::min(left, part_size);
            auto got = co_await channel_.take_part(std::span{buffer_}.first(part.value()));
            if (!got) {
                co_return got;
            }
            left -= part;
        }
        co_return Status{};
    }

    SessionChannel& channel_;
    const ProbeDeskOptions& options_;
    transport::Executor worker_;
    std::vector<std::byte> buffer_;
    Bytes counted_;
};

Task<void> within_limit(Visit& visit, Duration limit, std::string peer) {
    const auto begun = std::chrono::steady_clock::now();
    auto ended = co_await transport::within(limit, visit.run());
    const bool is_late = std::chrono::steady_clock::now() - begun >= limit;
    if (!ended && ended.error().code() == ErrorCode::timed_out && is_late) {
        co_return formats::fail(
            ErrorCode::timed_out,
            fmt::format(
                "{} was not done with its probe within {:g} s",
                peer,
                std::chrono::duration<double>(limit).count()));
    }
    co_return ended;
}

formats::Error refusal(std::string text) {
    return formats::Error{ErrorCode::refused, std::move(text)}.at(
        formats::Phase::plan, formats::Side::destination);
}

Task<void> end_for_migration(Reception& reception) {
    auto here = co_await reception.migration_is_here();
    if (!here) {
        co_return here;
    }
    co_return formats::fail(refusal(
        "a VM has begun to arrive here, and the link is not to be measured meanwhile: ask again "
        "afterwards"));
}

/// Whatever ends it, the source hears why.
Task<void> receive(
    OpenedChannel opened,
    Reception& reception,
    const ProbeDeskOptions& options,
    transport::Executor worker) {
    auto executor = co_await boost::asio::this_coro::executor;
    SessionChannel& channel = *opened.channel;
    Visit visit{channel, options, std::move(worker)};
    transport::TaskGroup group{executor, transport::TaskGroup::OnFailure::cancel_siblings};
    group.start(within_limit(visit, options.limit, channel.peer()), [&group](const Status& ended) {
        if (ended) {
            group.cancel();
        }
    });
    group.start(end_for_migration(reception));
    auto ended = co_await group.join();
    if (ended) {
        // All has been said: an end out of order changes nothing.
        auto finished = co_await channel.finish(longest_farewell);
        (void)finished;
        co_return Status{};
    }
    auto told = co_await channel.fail(ended.error(), longest_farewell);
    (void)told; // who asks again hears it again
    co_return ended;
}

} // namespace

Task<void> answer_probes(Reception& reception, ProbeDeskOptions options) {
    boost::asio::thread_pool worker{1};
    while (true) {
        auto probe = co_await reception.next_probe();
        if (!probe) {
            const bool is_over = probe.error().code() == ErrorCode::wrong_state;
            co_return is_over ? Status{} : Status{formats::fail(std::move(probe).error())};
        }
        auto answered =
            co_await receive(*std::move(probe), reception, options, worker.get_executor());
        if (!answered && options.on_refusal) {
            options.on_refusal(answered.error());
        }
    }
}

} // namespace wherry::migrate
