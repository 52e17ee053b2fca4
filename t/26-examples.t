# The programs of examples/: what they print, and what they move.
use strict;
use warnings;

use POSIX ();
use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);
use StreamTest::Proxy;

plan skip_all => 'there are no examples here' unless -d 'examples';
plan skip_all => 'they show what the C binding lacks' unless rust();
my $daemon = daemon();
my $dir = scratch();
my $pool = $daemon->pool_dir;
my @layout = (hole => 4 << 20, data => 300_000, hole => 2 << 20, data => 65_536);
sparse_file("$dir/image", @layout);
my $size = -s "$dir/image";
my $sha = sha_file("$dir/image");
$daemon->volume('full', undef, slurp("$dir/image"));
$daemon->volume('other', undef, pattern(700_000));
$daemon->volume('empty', $size);

# What an example needs that is not here.
my %PACKAGE = ('IO::Async' => 'libio-async-perl', Mojolicious => 'libmojolicious-perl');
sub missing {
    my ($file) = @_;
    return grep { slurp($file) =~ /^use \Q$_\E::/m && !has_module($_, $PACKAGE{$_}) } sort keys %PACKAGE;
}

sub example {
    my ($name, @args) = @_;
    my $got = run_perl(slurp("examples/$name.pl"), args => \@args);
    is "$got->{status}, $got->{signal}, $got->{hang}, $got->{err}", '0, 0, 0, ', "$name ends well";
    return $got->{out};
}

for my $file (glob 'examples/*.pl examples/*/*.pl') {
    my ($name) = $file =~ m{\Aexamples/(.+)};
    if (my @missing = missing($file)) {
        note "$file needs @missing";
        next;
    }
    my $got = run_perl(slurp($file));
    like $got->{err}, qr/\Ausage: \S+ URI\b.*\n\z/, "$file says how it is called";
    isnt $got->{status}, 0, 'and fails then';
    like slurp('examples/README.md'), qr/`\Q$name\E /, 'README.md names it';
}

my $shown = example('download', $daemon->uri, "$pool/full", "$dir/down");
like $shown, qr/\A(?:\r *\d+ %)*\r100 %\r$size bytes in \d+\.\d s\n\z/, 'a percentage, and the sum';
is sha_file("$dir/down"), $sha, 'all of the volume';

like example('upload-sparse', $daemon->uri, "$dir/image", "$pool/empty"), qr/\A$size bytes, \d+ of them in holes\n\z/,
    'bytes and holes';
is sha_file("$pool/empty"), $sha, 'all of the file';
SKIP: {
    skip 'no holes here', 1 if blocks("$dir/image") * 512 > 1 << 20;
    cmp_ok blocks("$pool/empty") * 512, '<', 1 << 20, 'with its holes';
}

like example('screenshot', 'test:///default', 'test', "$dir/shot.png"),
    qr{\A\S+/shot\.png: image/png, @{[ -s "$dir/shot.png" ]} bytes\n\z}, 'name, type and length';
is substr(slurp("$dir/shot.png"), 0, 8), "\x89PNG\r\n\x1a\n", 'a PNG';

my @lines = split /^/, example('events', $daemon->uri, "$pool/full", "$pool/other");
is_deeply [sort @lines], [sort map { sha_file("$pool/$_") . "  $pool/$_\n" } qw(full other)], 'both digests';

subtest 'backup' => sub {
    plan skip_all => 'zstd is missing' unless StreamTest::find_program('zstd');
    my $saved = "$dir/saved.zst";
    is example('backup', $daemon->uri, 'save', "$pool/full", $saved), '', 'nothing is said';
    cmp_ok -s $saved, '<', $size / 2, 'a volume is saved';
    $daemon->volume('restored', $size);
    example('backup', $daemon->uri, 'restore', "$pool/restored", $saved);
    is sha_file("$pool/restored"), $sha, 'and restored';

    my $uri = $daemon->uri;
    my $fails = sub {
        my ($name, $said, @args) = @_;
        my $got = run_perl(slurp('examples/backup.pl'), args => [$uri, @args]);
        isnt $got->{status}, 0, "$name: it fails";
        like $got->{err}, $said, '... and says why';
    };
    my $before = sha_file($saved);
    my $whole = slurp($saved);
    spew("$dir/cut.zst", substr $whole, 0, length($whole) / 2);
    $fails->('half of a file', qr/^zstd: status [1-9]/m, 'restore', "$pool/restored", "$dir/cut.zst");
    $fails->('a folder that is not there', qr/^zstd: status [1-9]/m, 'save', "$pool/full", "$dir/none/saved.zst");
    my $proxy = StreamTest::Proxy->start($daemon->socket);
    $proxy->rule(nth => 2, do => 'cut');
    $uri = $daemon->uri($proxy->socket);
    $fails->('a connection that is cut', qr/\Athe stream: .+\n\z/, 'save', "$pool/other", $saved);
    is sha_file($saved), $before, 'what was saved stays';
    is_deeply [glob "$dir/*.part"], [], 'and nothing else is left';
};

SKIP: {
    skip 'no guest here', 5 if grep { !StreamTest::has($_) } qw(qemu console);
    my $guest = $daemon->guest;
    pipe my $input, my $typed or die "pipe: $!";
    my $pid = fork // die "cannot fork: $!";
    if (!$pid) {
        close $typed;
        open STDIN, '<&', $input and open STDOUT, '>', "$dir/console"
            and exec { $^X } $^X, (map { "-I$_" } grep { !ref } @INC), 'examples/console.pl',
                $daemon->uri, $guest->get_name;
        POSIX::_exit(127);
    }
    close $input;
    my $seen = sub { my ($what) = @_; within(120, sub { slurp("$dir/console") =~ /$what/ }) };
    within(120, sub { -e "$dir/console" });
    syswrite $typed, '?';
    ok $seen->($daemon->guest_says), 'console: what the guest says';
    syswrite $typed, "hello\n";
    ok $seen->("hello\n"), 'and what it echoes';
    close $typed;
    my $ended = within(60, sub { waitpid($pid, POSIX::WNOHANG()) == $pid });
    is $ended && $?, 0, 'the end of the input is its end';
    kill KILL => $pid unless $ended;
    subtest 'console-log' => \&console_log;
    subtest 'web-console' => \&web_console;
}

done_testing;

# An example that goes on, with a pipe for its output.
sub begun {
    my ($name, @args) = @_;
    my $pid = open my $out, '-|', $^X, (map { "-I$_" } grep { !ref } @INC), "examples/$name.pl", @args or die "$name: $!";
    return ($pid, $out);
}

sub console_log {
    plan skip_all => 'IO::Async is missing' if missing('examples/console-log.pl');
    mkdir "$dir/logs" or die "mkdir: $!";
    $_->destroy for $daemon->conn->list_all_domains(Sys::Virt::Domain::LIST_ACTIVE());
    my @guests = map { $daemon->guest(paused => 1) } 1 .. 3;
    my ($pid, $out) = begun('console-log', $daemon->uri, "$dir/logs");
    my %log = map { $_->get_name => "$dir/logs/" . $_->get_name . '.serial0.log' } @guests;
    ok within(120, sub { 3 == grep { -e } values %log }), 'a file for each guest';
    my @consoles = map { $_->get_xml_description =~ m{<console [^>]*tty='([^']+)'} } @guests;
    ok within(120, sub { !grep { !opened_by_daemon($_) } @consoles }), 'whose consoles are open';
    for my $n (0 .. 2) {
        $guests[$n]->resume;
        # Nobody else can open the console: what is typed goes to the guest's side of it.
        open my $tty, '>', $consoles[$n] or die "$consoles[$n]: $!";
        syswrite $tty, "?guest $n\n";
        ok within(120, sub { slurp($log{ $guests[$n]->get_name }) eq $daemon->guest_says . "guest $n\n" }), "guest $n";
        $guests[$n]->destroy;
    }
    ok within(120, sub { waitpid($pid, POSIX::WNOHANG()) == $pid }), 'it ends with the last';
    is $?, 0, '... well';
}

sub opened_by_daemon {
    my ($path) = @_;
    return grep { (readlink // '') eq $path } glob '/proc/' . $daemon->pid . '/fd/*';
}

sub web_console {
    plan skip_all => 'Mojolicious is missing' if missing('examples/web-console/web-console.pl');
    eval { require Mojo::UserAgent } or die $@;
    my $guest = $daemon->guest(paused => 1);
    my ($pid, $out) = begun('web-console/web-console', $daemon->uri, $guest->get_name);
    my ($origin, $token) = (<$out> // '') =~ m{\A(http://127\.0\.0\.1:[0-9]+)/#([0-9a-f]{32})\n\z} or return fail 'no address';
    my $agent = Mojo::UserAgent->new(inactivity_timeout => 0);
    like $agent->get("$origin/")->result->body, qr/xterm\.css/, 'a page';
    my $console = sub {
        my ($from, $query, $let_in) = @_;
        my $tx = $agent->build_websocket_tx("$origin/console$query" =~ s/^http/ws/r);
        $tx->req->headers->origin($from) if defined $from;
        my $status;
        $agent->start($tx => sub {
            my ($agent, $tx) = @_;
            $status = $tx->res->code;
            return Mojo::IOLoop->stop unless $tx->is_websocket;
            $tx->on(finish => sub { Mojo::IOLoop->stop });
            $let_in ? $let_in->($tx) : $tx->finish;
        });
        Mojo::IOLoop->start;
        return $status;
    };
    is $console->($origin, ''), 403, 'no token';
    is $console->($origin, '?token=' . $token =~ tr/0-9a-f/1-9a-f0/r), 403, 'another token';
    is $console->($_, "?token=$token"), 403, $_ // 'no origin'
        for undef, 'null', 'http://localhost' . $origin =~ s/.*(?=:)//r, 'http://elsewhere.example';
    my $said = '';
    is $console->($origin, "?token=$token", sub {
        my ($tx) = @_;
        $tx->on(binary => sub {
            $said .= $_[1];
            $guest->destroy if $said =~ /hello\n\z/;
        });
        $tx->send({ binary => "?hello\n" });
        $guest->resume;
    }), 101, 'its own page';
    is $said, $daemon->guest_says . "hello\n\r\n[the console has ended]\r\n", '... which the guest answers, to its end';
    kill TERM => $pid;
    close $out;
}
