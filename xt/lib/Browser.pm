package Browser;

# Chromium without a screen, driven by its DevTools protocol. It ends with the test's daemon, whose guard ends all
# that has its folder in the environment.

use strict;
use warnings;
no warnings 'exec';    # what stands behind an exec runs where that failed

use MIME::Base64 ();
use Mojo::IOLoop ();
use Mojo::UserAgent ();
use POSIX ();
use StreamTest ();

sub program { return (map { StreamTest::find_program($_) // () } qw(chromium chromium-browser))[0] }

# On a page, as wide and as high as this.
sub start {
    my ($class, $daemon, $url, $width, $height) = @_;
    my $profile = $daemon->dir . '/browser';
    mkdir $profile or die "mkdir $profile: $!";
    my $agent = Mojo::UserAgent->new(inactivity_timeout => 0);
    my $self = bless { agent => $agent, calls => 0 }, $class;
    $self->{pid} = fork // die "cannot fork: $!";
    if (!$self->{pid}) {
        @ENV{qw(HOME XDG_CONFIG_HOME XDG_CACHE_HOME XDG_RUNTIME_DIR)} = ($profile) x 4;
        open STDOUT, '>', "$profile.log" and open STDERR, '>&', \*STDOUT
            and exec { program() } 'chromium', qw(--headless --no-sandbox --disable-gpu --no-first-run --hide-scrollbars
                --disable-background-networking --remote-debugging-port=0), "--window-size=$width,$height",
                "--user-data-dir=$profile", $url;
        POSIX::_exit(127);
    }
    # Its first line is the port.
    my ($file, $port) = ("$profile/DevToolsActivePort");
    StreamTest::within(300, sub { -s $file && (($port) = StreamTest::slurp($file) =~ /^([0-9]+)\n/) })
        or die "no browser:\n" . StreamTest::slurp("$profile.log");
    my $page;
    StreamTest::within(300, sub {
        my $list = eval { $self->{agent}->get("http://127.0.0.1:$port/json/list")->result->json } or return 0;
        ($page) = map { $_->{webSocketDebuggerUrl} } grep { $_->{type} eq 'page' && $_->{url} eq $url } @$list;
    }) or die "the browser has no page $url:\n" . StreamTest::slurp("$profile.log");
    $self->{agent}->websocket($page => sub {
        my ($agent, $tx) = @_;
        die 'the browser refuses' unless $tx->is_websocket;
        # A picture is a long message.
        $tx->max_websocket_size(16 << 20);
        $tx->on(json => sub { $self->{answer} = $_[1] if ($_[1]{id} // 0) == $self->{calls} });
        $self->{page} = $tx;
    });
    $self->turn(sub { $self->{page} });
    return $self;
}

sub turn {
    my ($self, $done) = @_;
    StreamTest::within(300, sub { Mojo::IOLoop->one_tick; $done->() }, 0)
        or die 'the browser does not answer';
    return;
}

# One call of the protocol's, and what it gives.
sub call {
    my ($self, $method, %params) = @_;
    delete $self->{answer};
    $self->{page}->send({ json => { id => ++$self->{calls}, method => $method, params => \%params } });
    $self->turn(sub { $self->{answer} });
    die "$method: $self->{answer}{error}{message}" if $self->{answer}{error};
    return $self->{answer}{result};
}

# The value of an expression in the page.
sub value {
    my ($self, $expression) = @_;
    return $self->call('Runtime.evaluate', expression => $expression, returnByValue => \1)->{result}{value};
}

# Presses keys; a newline is the Enter key.
sub type {
    my ($self, $text) = @_;
    for my $key (split //, $text) {
        my %key = $key eq "\n" ? (key => 'Enter', code => 'Enter', windowsVirtualKeyCode => 13) : ();
        $self->call('Input.dispatchKeyEvent', type => 'keyDown', text => $key eq "\n" ? "\r" : $key, %key);
        $self->call('Input.dispatchKeyEvent', type => 'keyUp', %key);
    }
    return;
}

# A PNG of a rectangle of the page.
sub picture {
    my ($self, %clip) = @_;
    return MIME::Base64::decode($self->call('Page.captureScreenshot', format => 'png', clip => { %clip, scale => 1 })->{data});
}

sub stop {
    my ($self) = @_;
    my $pid = delete $self->{pid} or return;
    kill TERM => $pid;
    StreamTest::within(60, sub { waitpid($pid, POSIX::WNOHANG()) == $pid }) and return;
    kill KILL => $pid;
    waitpid $pid, 0;
    return;
}

sub DESTROY { local ($?, $@, $!); $_[0]->stop; return }

1;
