#!perl
# examples/web-console in a browser: types into it, sees the guest's answer, and takes a picture.
# `prove -b xt/web-console.t :: FILE` keeps the picture there.
use strict;
use warnings;

use Test::More;
use lib 't/lib', 'xt/lib';
use StreamTest qw(libvirtd qemu console);
use LoginGuest;

my %needs = ('Mojo::UserAgent' => 'libmojolicious-perl');
for my $module (sort keys %needs) {
    plan skip_all => "$module is missing: install $needs{$module} (Debian)" unless eval "require $module";
}
plan skip_all => 'xterm.js is missing: install node-xterm (Debian)' unless -e '/usr/share/nodejs/xterm/lib/public/Terminal.js';
require Browser;
plan skip_all => 'chromium is missing: install it' unless Browser::program();
plan skip_all => 'the C binding has no sockets' unless rust();
my ($kernel, $missing) = LoginGuest::parts();
plan skip_all => $missing unless $kernel;
deadline(1_800);

my $daemon = daemon();
my $guest = LoginGuest::define($daemon);
$guest->create;

# The example, with its address for its first line.
my $pid = open my $example, '-|', $^X, (map { "-I$_" } grep { !ref } @INC), 'examples/web-console/web-console.pl',
    $daemon->uri, $guest->get_name or die "the example: $!";
chomp(my $address = <$example> // die 'the example says nothing');
my ($origin) = $address =~ m{\A(http://127\.0\.0\.1:[0-9]+)/} or die $address;

my %listens = map { (split)[3] => 1 } grep { /pid=$pid,/ } `ss -ltnpH 2>/dev/null`;
SKIP: {
    skip 'ss does not say who listens', 1 unless %listens;
    is_deeply [keys %listens], [$origin =~ s{http://}{}r], 'it listens on the loopback address only';
}

my $browser = Browser->start($daemon, $address, 900, 600);
sub screen {
    return ($browser->value('terminal.selectAll(), terminal.getSelection()') // '') =~ s/\s+\z//r;
}
sub shows {
    my ($what, $name) = @_;
    return ok(within(300, sub { screen() =~ $what }, 0.2), $name) || diag screen();
}

shows(qr/login:\z/, 'what the guest says');
$browser->type(LoginGuest::user() . "\n");
shows(qr/Password:\z/, 'and answers');
$browser->type(LoginGuest::password() . "\n");
shows(qr/#\z/, 'a login');
$browser->type("printf '\\303\\244\\342\\202\\254\\n'\n");
shows(qr/\n\x{e4}\x{20ac}\n.*#\z/, 'a command, and its answer');
$browser->type("uname -sr; free -h\n");
shows(qr/Swap:.*#\z/s, 'and another');

my $place = $browser->value('terminal.clearSelection(), JSON.stringify(document.querySelector(".xterm-screen").getBoundingClientRect())');
my $box = Mojo::JSON::from_json($place);
my $picture = $browser->picture(map { $_ => $box->{$_} } qw(x y width height));
is substr($picture, 0, 8), "\x89PNG\r\n\x1a\n", 'a picture';
spew($_, $picture) for grep { defined } $ARGV[0];

$guest->destroy;
shows(qr/\[the console has ended\]/, 'the end of the guest');

$browser->stop;
kill TERM => $pid;
close $example;
done_testing;
