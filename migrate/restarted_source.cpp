// SPDX-License-Identifier: Apache-2.0
#include "migrate/restarted_source.hpp"

#include "migrate/aftermath.hpp"
#include "migrate/inquiry.hpp"

#include <utility>

namespace wherry::migrate {

using formats::Status;
using transport::Task;

namespace {

class RestartedSource {
public:
    RestartedSource(
        RestartedSourceOptions options,
        Connector connect,
        CancelGate& gate,
        Observer& observer,
        const transport::Executor& executor)
        : options_{std::move(options)},
          connect_{std::move(connect)},
          gate_{gate},
          observer_{observer},
          aftermath_{formats::Side::source, aftermath_options(), executor} {}

    Task<RestartedSourceOutcome> run() {
        gate_.on_request([this] { aftermath_.stop(); });
        if (options_.desk != nullptr) {
            options_.desk->attach(aftermath_.runner());
        }
        auto ran = co_await aftermath_.run([this] { return is_over(); });
        if (options_.desk != nullptr) {
            options_.desk->detach();
        }
        gate_.on_request({});
        RestartedSourceOutcome outcome;
        const OwnershipStatus status = owner().status();
        outcome.state = owner().state();
        outcome.epoch = status.epoch;
        outcome.sentence = ran ? status.sentence : ran.error().text();
        co_return outcome;
    }

private:
    [[nodiscard]] const SourceOwner& owner() const {
        return static_cast<const SourceOwner&>(aftermath_.owner());
    }

    AftermathOptions aftermath_options() {
        AftermathOptions how;
        how.owner = SourceOwner::restarted(options_.last, options_.policy.ownership_patience());
        how.keeper = options_.keeper;
        how.call_peer = [this] {
            return call();
        };
        how.attempt = attempt();
        how.boot = options_.boot;
        how.on_moved = [this] {
            on_moved();
        };
        return how;
    }

    [[nodiscard]] Attempt attempt() const {
        return Attempt{
            .arbiter = options_.last.arbiter,
            .migration_id = options_.last.migration_id,
            .pages_missing = options_.last.pages_missing};
    }

    Task<std::unique_ptr<SessionChannel>> call() {
        auto stream = co_await connect_(ChannelRole::inquiry, 0);
        if (!stream) {
            co_return formats::fail(std::move(stream).error());
        }
        Inquiry about;
        about.channel.migration_id = options_.last.migration_id;
        about.channel.epoch = Epoch{static_cast<std::uint64_t>(options_.last.epoch) - 1};
        about.vm_id = options_.vm_id;
        about.attempt = attempt();
        about.memory_is_lost = true;
        co_return co_await open_inquiry(
            *std::move(stream), std::move(about), options_.policy.silence);
    }

    /// Once: a VM that does not start is a person's to look at.
    void on_moved() {
        if (owner().state() == SourceOwnerState::lost && !is_booting_) {
            is_booting_ = true;
            aftermath_.say(
                [](Owner& owner) { return owner.boot_again(); }, [this] { has_booted_ = true; });
        }
        const OwnershipStatus status = owner().status();
        snapshot_.phase = formats::Phase::handover;
        snapshot_.ownership_state = status.state;
        snapshot_.ownership = status.sentence;
        observer_.progressed(snapshot_);
    }

    /// A destination that is connected has been told that the VM was taken back.
    [[nodiscard]] bool is_over() const {
        using enum SourceOwnerState;
        const SourceOwnerState state = owner().state();
        return state == handed_off || state == salvaged ||
               (state == reclaimed && (!owner().needs_peer() || aftermath_.is_connected())) ||
               (state == lost && has_booted_); // it was tried
    }

    RestartedSourceOptions options_;
    Connector connect_;
    CancelGate& gate_;
    Observer& observer_;
    ProgressSnapshot snapshot_;
    bool is_booting_ = false;
    bool has_booted_ = false;
    Aftermath aftermath_;
};

Task<RestartedSourceOutcome>
settle(RestartedSourceOptions options, Connector connect, CancelGate& gate, Observer& observer) {
    auto executor = co_await boost::asio::this_coro::executor;
    RestartedSource source{std::move(options), std::move(connect), gate, observer, executor};
    co_return co_await source.run();
}

} // namespace

Task<RestartedSourceOutcome> settle_restarted_source(
    RestartedSourceOptions options, Connector connect, CancelGate& gate, Observer& observer) {
    auto settling = settle(std::move(options), std::move(connect), gate, observer);
    co_return co_await transport::shielded(std::move(settling));
}

} // namespace wherry::migrate
